"""SIGKILL at any moment, run again: the bytes are those of an undisturbed run."""

import os
import shutil
import signal
import time

import pytest

pytestmark = pytest.mark.lineage


def kill_while_working(workspace, stage: str, asset: str, partition: str | None) -> None:
    """Start the stage afresh and kill it, with all its children, as soon as it has saved some state."""
    shutil.rmtree(workspace.path / "store" / asset / (partition or ""))
    scratch = workspace.path / ".amalgam" / "scratch" / stage
    process = workspace.start("pipelines", "run")
    deadline = time.monotonic() + 240
    while not any(p.is_file() and not p.name.startswith(".") for p in scratch.rglob("*")):
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
    kill_while_working(workspace, stage, asset, partition)
    text = workspace.amalgam("run")
    assert "resuming work that was interrupted" in text
    assert workspace.locked() == before
    assert {s["dagster"] for s in workspace.status().values()} == {"fresh"}
    assert "up to date" in workspace.dvc("status")
    scratch = workspace.path / ".amalgam" / "scratch"
    assert not any(scratch.iterdir()), "scratch is removed once the artefact is in its place"
    leftovers = [p for p in (workspace.path / "store").rglob(".*") if p.is_dir()]
    assert not leftovers
