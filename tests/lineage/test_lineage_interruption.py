"""SIGKILL at any moment, run again: the bytes are those of an undisturbed run."""

import os
import shutil
import signal
import time

import pytest

pytestmark = pytest.mark.lineage


def kill_while_working(workspace, asset: str, partition: str | None, state, pattern: str = "*") -> None:
    """Start the stage afresh and kill it, with all its children, as soon as a file of that name is in the folder `state`."""
    shutil.rmtree(workspace.path / "store" / asset / (partition or ""))
    process = workspace.start("pipelines", "run")
    deadline = time.monotonic() + 240
    while not any(p.is_file() and not p.name.startswith(".") for p in state.rglob(pattern)):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no state was saved"
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (workspace.path / "store" / asset / (partition or "")).exists(), "killed too late to test anything"


@pytest.mark.parametrize(
    ("stage", "asset", "partition"),
    [("diffusion", "diffusion", None), ("classifier-real-seed-0", "classifier/real", "seed-0")],
)
def test_a_killed_step_resumes_to_the_same_bytes(workspace, stage, asset, partition):
    before = workspace.locked()
    kill_while_working(workspace, asset, partition, workspace.path / ".amalgam" / "scratch" / stage)
    text = workspace.amalgam("run")
    assert "resuming work that was interrupted" in text
    assert workspace.locked() == before
    assert {s["dagster"] for s in workspace.status().values()} == {"fresh"}
    assert "up to date" in workspace.dvc("status")
    scratch = workspace.path / ".amalgam" / "scratch"
    assert not any(scratch.iterdir()), "scratch is removed once the artefact is in its place"
    leftovers = [p for p in (workspace.path / "store").rglob(".*") if p.is_dir()]
    assert not leftovers


def test_a_killed_evaluation_attacks_nothing_twice(workspace):
    before = workspace.locked()
    ledger = workspace.path / ".amalgam" / "ledger" / "robustness"
    shutil.rmtree(ledger)
    kill_while_working(workspace, "robustness", None, ledger, "*--linf-*.json")
    known = {
        path: path.stat().st_mtime_ns for path in ledger.rglob("*") if path.is_file() and path.suffix == ".parquet"
    }
    assert known, "clean outcomes come first"
    assert "✓ robustness" in workspace.amalgam("run")
    assert workspace.locked() == before
    assert all(path.stat().st_mtime_ns == changed for path, changed in known.items())
    assert not (workspace.path / ".amalgam" / "scratch" / "robustness").exists()
