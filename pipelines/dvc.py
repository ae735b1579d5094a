"""DVC's view: `dvc.yaml` written from the asset graph, and the few DVC commands the pipeline needs."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ops.errors import AmalgamError
from ops.files import replacing
from pipelines.lineage import Stage
from pipelines.project import ROOT

if TYPE_CHECKING:
    from dvc.repo import Repo

HEADER = "# Written from the asset graph by `python -m pipelines dvc`; a test says that it is current.\n"


def render(stages: Sequence[Stage]) -> str:
    """Return the text of `dvc.yaml`: one stage for each stage of the graph."""
    return HEADER + yaml.safe_dump(
        {"stages": {stage.name: _entry(stage) for stage in stages}}, sort_keys=False, width=120
    )


def _entry(stage: Stage) -> dict[str, Any]:
    partition = f" --partition {stage.partition}" if stage.partition else ""
    return {
        "cmd": f"python -m pipelines materialize {'/'.join(stage.asset.path)}{partition}",
        "deps": [*(f"store/{parent.folder}" for parent in stage.parents), *stage.raw, *stage.sources],
        "params": [stage.params],
        "outs": [f"store/{stage.folder}"],
    }


def inside_dvc() -> bool:
    """Say whether this process is the command of a DVC stage (DVC then commits by itself, and holds the locks)."""
    return "DVC_STAGE" in os.environ


@contextmanager
def _repo() -> Iterator["Repo"]:
    """Open the project as DVC sees it; what DVC refuses becomes an AmalgamError with DVC's own message.

    DVC runs in this process: a program of its own would begin every step with its imports. It waits while
    another process holds its lock.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # what `--quiet` does, progress bars included
    try:
        with Repo(str(ROOT), _wait_for_lock=True) as repo:
            yield repo
    except DvcException as error:
        raise AmalgamError(f"DVC failed: {error}", "see the message; `dvc doctor` helps") from error


def commit(stage: Stage) -> None:
    """Tell DVC that the stage's output is what its inputs, code and parameters make (updates `dvc.lock`).

    What `dvc commit --force` does, but for how `dvc.lock` is written: replaced as a whole, so that a kill leaves the old file
    or the new one, and not read with the parser that keeps comments, which is slow. It has none.
    """
    from dvc.repo import lock_repo
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize import dumps_yaml, load_yaml

    path = ROOT / "dvc.lock"
    with _repo() as repo, lock_repo(repo):
        found = repo.stage.load_one(name=stage.name)
        found.save()
        found.commit()
        lock: dict[str, Any] = load_yaml(str(path)) if path.exists() else {"schema": "2.0"}
        lock.setdefault("stages", {}).update(to_lockfile(found))
        with replacing(path) as temporary:
            temporary.write_text(dumps_yaml(lock), encoding="utf-8")


def changed_stages() -> set[str]:
    """Return the names of the stages that `dvc status` does not call up to date."""
    with _repo() as repo:
        return {name for name in repo.status() if not name.endswith(".dvc")}


def locked_outputs() -> dict[str, str]:
    """Return the md5 of every stage's output in `dvc.lock`, by stage name."""
    path = ROOT / "dvc.lock"
    lock = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: entry["outs"][0]["md5"] for name, entry in lock.get("stages", {}).items() if entry.get("outs")}


def raw_version(folder: str) -> str:
    """Return the DVC hash of a folder of raw data; raises AmalgamError where it is not on this machine."""
    from pipelines.lineage import digest_folder

    path = ROOT / folder
    if not path.exists() or not any(path.iterdir()):
        raise AmalgamError(f"the raw data in {folder} is not here", "dvc pull")
    return digest_folder(Path(path))
