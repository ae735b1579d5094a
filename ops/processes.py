"""Training in several processes: torchrun as a child, its reports passed on.

The parent writes a job as JSON, starts `torchrun -m MODULE JOB.json`, and hears of progress through lines of JSON that
the leading process prints. A job can be started by hand just as well.
"""

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ops.config import Config
from ops.errors import AmalgamError
from ops.files import write_json
from ops.progress import Monitor
from ops.runtime import configure_torch, pick_device
from ops.summary import Summary
from ops.train.workers import Workers, join_workers

PREFIX = "amalgam> "

Task = Callable[[torch.device, Monitor, Workers], Summary]
"""This process's share of a job."""


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


def run_in_processes(module: str, job: Config, scratch: Path, processes: int, monitor: Monitor) -> Summary:
    """Run `python -m module` on `job` in `processes` processes on this machine and return what the task returned.

    Raises AmalgamError with the remedy where the task raised one, and with the last lines of its output otherwise.
    """
    path = scratch / "job.json"
    write_json(path, job.model_dump(mode="json"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", module, str(path)]
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


def run_worker(device_name: str, task: Task) -> None:
    """Do this process's share of a job; the leading process prints reports."""
    configure_torch()
    device = pick_device(device_name)
    workers = join_workers(device)
    if device.type == "cuda":
        device = torch.device("cuda", workers.rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    relay = Relay(workers.leads)
    try:
        summary = task(device, relay, workers)
    except AmalgamError as error:
        relay.send("mistake", message=error.message, remedy=error.remedy)
        raise SystemExit(1) from None
    relay.send("summary", figures=dict(summary.figures))
