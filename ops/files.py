"""Files written whole or not at all, with bytes that depend on their content only."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of the file `path` and rename it over `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as UTF-8 JSON with sorted keys, so that equal values are equal bytes.

    Raises ValueError for NaN and infinity, which JSON cannot hold.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def replace_folder(temporary: Path, final: Path) -> None:
    """Put the finished folder `temporary` in the place of `final`; an old `final` disappears only after the rename."""
    final.parent.mkdir(parents=True, exist_ok=True)
    retired = final.with_name(f".{final.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if final.exists():
        final.rename(retired)
    temporary.rename(final)
    shutil.rmtree(retired, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Let `target`, which must not exist, be the file `source`: one file with two names where the disk can, else a copy.

    For files that nobody changes in place, as all artefacts are.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def content_hash(folder: Path) -> str:
    """Return a short hash of all files of a folder, with their names."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(json.dumps(path.relative_to(folder).as_posix()).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
