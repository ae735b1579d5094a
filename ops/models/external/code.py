"""Run the code of a model from elsewhere, apart from all other code, and say in one sentence what goes wrong there.

Nothing here protects against malicious code: it runs with the rights of the user.
"""

import importlib
import inspect
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ops.errors import AmalgamError

RESERVED = sys.stdlib_module_names | {"ops", "assets", "pipelines", "torch", "numpy"}
"""Modules that must mean the same to everyone."""


def copy_code(source: Path, out: Path) -> None:
    """Copy every Python file below `source` to the same place below `out`; hidden and cached files stay behind.

    Raises AmalgamError if there is none.
    """
    files = [path.relative_to(source) for path in sorted(source.rglob("*.py"))]
    files = [f for f in files if not any(part.startswith(".") or part == "__pycache__" for part in f.parts)]
    if not files:
        raise AmalgamError(f"{source.name} holds no Python file", "put the code of the model there, and dvc add data")
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, out / file)


def make_module(code: Path, name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return what `name` (`module:attribute` in the folder `code`) makes of `arguments`, in evaluation mode.

    Modules of `code` find each other, and are no modules of anyone else. Random numbers are the same at each call.
    Raises AmalgamError for what is missing, for arguments that do not fit, for any exception, and for what is no module.
    """
    code = code.resolve()
    where, _, attribute = name.partition(":")
    with _importable(code), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if where.partition(".")[0] not in _own(code):
            raise AmalgamError(f"there is no module {where!r} for {name}", f"the folder has: {_list(_own(code))}")
        with short_errors(
            f"importing {where}", code, "what it imports must be installed, or be Python files in its folder"
        ):
            module = importlib.import_module(where)
        maker = getattr(module, attribute, None)
        if not callable(maker) or isinstance(maker, nn.Module):
            found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            what = "has no class or function" if maker is None else "has something else than a class or function called"
            raise AmalgamError(f"{where} {what} {attribute!r}", f"set object to one of: {where}:{_list(found)}")
        _check_arguments(name, maker, arguments)
        with short_errors(
            f"{name}({', '.join(arguments)})",
            code,
            "correct its arguments, or the code; Python files are all that it may read",
        ):
            made = maker(**arguments)
            if isinstance(made, nn.Module):
                return made.eval()
    raise AmalgamError(f"{name} returns {type(made).__name__}, no torch.nn.Module", "name what returns the module")


@contextmanager
def short_errors(what: str, code: Path, remedy: str) -> Iterator[None]:
    """Turn any exception of the user's code into an AmalgamError that names it and the line in `code` it comes from."""
    try:
        yield
    except (AmalgamError, MemoryError, torch.OutOfMemoryError):  # the last two are no fault of the code
        raise
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or ["no message"]
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(code)]
        place = f" ({Path(frames[-1].filename).relative_to(code)}, line {frames[-1].lineno})" if frames else ""
        raise AmalgamError(f"{what} raised {type(error).__name__}{place}: {lines[0][:300]}", remedy) from None


def _check_arguments(name: str, maker: Any, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(maker)
    except (ValueError, TypeError):  # built-ins have none
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise AmalgamError(f"the arguments of {name} do not fit: {error}", f"it takes {signature}") from None


@contextmanager
def _importable(code: Path) -> Iterator[None]:
    """Let the modules in `code` be imported, whatever else has their names, and forget them afterwards."""
    own = _own(code)
    if taken := own & RESERVED:
        raise AmalgamError(f"{_list(taken)} in the model's folder hides a module of that name", "give it another name")
    path, written = list(sys.path), sys.dont_write_bytecode
    others = _take_out(own)
    sys.path.insert(0, str(code))
    sys.dont_write_bytecode = True  # the folder is an artefact
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = written
        _take_out(own)
        sys.modules.update(others)


def _own(code: Path) -> set[str]:
    """Return the names of modules and packages at the top of the folder."""
    return {path.relative_to(code).parts[0].removesuffix(".py") for path in code.rglob("*.py")}


def _take_out(names: set[str]) -> dict[str, Any]:
    """Remove the modules `names` and all below them from those that are loaded, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
