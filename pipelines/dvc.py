"""DVC's view: `dvc.yaml` written from the asset graph, and the few DVC commands the pipeline needs."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ops.errors import AmalgamError
from pipelines.lineage import Stage
from pipelines.project import ROOT, tool

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


def run(*arguments: str) -> str:
    """Run a DVC command in the project and return what it printed; raises AmalgamError with DVC's own message."""
    done = subprocess.run(tool("dvc", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise AmalgamError(f"dvc {' '.join(arguments)} failed: {message}", "see the message; `dvc doctor` helps")
    return done.stdout


def commit(stage: Stage) -> None:
    """Tell DVC that the stage's output is what its inputs, code and parameters make (updates `dvc.lock`)."""
    run("--wait-for-lock", "commit", "--quiet", "--force", stage.name)


def changed_stages() -> set[str]:
    """Return the names of the stages that `dvc status` does not call up to date."""
    return {name for name in json.loads(run("--wait-for-lock", "status", "--json")) if not name.endswith(".dvc")}


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
