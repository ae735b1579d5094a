"""Training in several processes: torchrun as a child, its reports passed on.

The parent writes the job as JSON, starts `torchrun -m ops.train JOB.json`, and hears of progress through lines of JSON
that the leading process prints. The job can be started by hand just as well.
"""

import json
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import torch

from ops.config import Config
from ops.errors import AmalgamError
from ops.files import write_json
from ops.progress import Monitor
from ops.runtime import configure_torch, pick_device
from ops.summary import Summary
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe
from ops.train.workers import Workers, join_workers

PREFIX = "amalgam> "


class Job(Config):
    """The arguments of `train_classifier`, as a file."""

    recipe: Recipe
    name: str
    real: Path
    synthetic: Path | None
    initial: Path | None
    seed: int
    out: Path
    scratch: Path
    cache: Path
    device: str

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Return the job in a JSON file."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


class Relay:
    """A monitor whose reports are lines of JSON for the parent process."""

    def __init__(self, leads: bool) -> None:
        self.leads = leads

    def send(self, kind: str, **content: Any) -> None:
        """Print one report."""
        if self.leads:
            print(PREFIX + json.dumps({"kind": kind, **content}), flush=True)

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Report progress."""
        self.send("progress", done=done, total=total, unit=unit, figures=figures)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Report points of curves."""
        self.send("metrics", step=step, values=values)

    def note(self, message: str) -> None:
        """Report a line for the log."""
        self.send("note", message=message)


def train_in(processes: int, job: Job, monitor: Monitor) -> Summary:
    """Run `job` in this process, or in several processes on this machine."""
    if processes > 1:
        return train_in_processes(job, processes, monitor)
    return _train(job, torch.device(job.device), monitor, Workers())


def train_in_processes(job: Job, processes: int, monitor: Monitor) -> Summary:
    """Run `job` in `processes` processes on this machine and return what `train_classifier` returned.

    Raises AmalgamError with the remedy where the training raised one, and with the last lines of its output otherwise.
    """
    path = job.scratch / "job.json"
    write_json(path, job.model_dump(mode="json"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "ops.train", str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    summary, mistake, tail = None, None, deque[str](maxlen=20)
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if not line.startswith(PREFIX):
                tail.append(line.rstrip())
                continue
            report = json.loads(line.removeprefix(PREFIX))
            kind = report.pop("kind")
            if kind == "progress":
                monitor.progress(report["done"], report["total"], report["unit"], **report["figures"])
            elif kind == "metrics":
                monitor.metrics(report["step"], report["values"])
            elif kind == "note":
                monitor.note(report["message"])
            elif kind == "mistake":
                mistake = AmalgamError(report["message"], report["remedy"])
            else:
                summary = Summary(report["figures"])
    finally:
        if child.poll() is None and sys.exc_info()[0] is not None:
            child.terminate()
        child.wait()
    if mistake is not None:
        raise mistake
    if child.returncode or summary is None:
        text = "\n".join(tail)
        raise AmalgamError(f"the training in {processes} processes ended early:\n{text}", "see the lines above")
    return summary


def run_job(path: Path) -> None:
    """Do this process's share of a job; the leading process prints reports."""
    configure_torch()
    job = Job.read(path)
    device = pick_device(job.device)
    workers = join_workers(device)
    if device.type == "cuda":
        device = torch.device("cuda", workers.rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    relay = Relay(workers.leads)
    try:
        summary = _train(job, device, relay, workers)
    except AmalgamError as error:
        relay.send("mistake", message=error.message, remedy=error.remedy)
        raise SystemExit(1) from None
    relay.send("summary", figures=dict(summary.figures))


def _train(job: Job, device: torch.device, monitor: Monitor, workers: Workers) -> Summary:
    places = (job.real, job.synthetic, job.initial, job.seed, job.out, job.scratch, job.cache)
    return train_classifier(job.recipe, job.name, *places, device, monitor, workers)
