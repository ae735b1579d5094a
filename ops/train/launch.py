"""Training of a classifier as a job: in this process, or in several under torchrun."""

from pathlib import Path

import torch

from ops.config import Config
from ops.processes import run_in_processes, run_worker
from ops.progress import Monitor
from ops.summary import Summary
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe
from ops.train.workers import Workers


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
    identifier: Path | None = None

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Return the job in a JSON file."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


def train_in(processes: int, job: Job, monitor: Monitor) -> Summary:
    """Run `job` in this process, or in several processes on this machine."""
    if processes > 1:
        return run_in_processes("ops.train", job, job.scratch, processes, monitor)
    return _train(job, torch.device(job.device), monitor, Workers())


def run_job(path: Path) -> None:
    """Do this process's share of the job in the file `path`."""
    job = Job.read(path)
    run_worker(job.device, lambda device, monitor, workers: _train(job, device, monitor, workers))


def _train(job: Job, device: torch.device, monitor: Monitor, workers: Workers) -> Summary:
    places = (job.real, job.synthetic, job.initial, job.seed, job.out, job.scratch, job.cache)
    return train_classifier(job.recipe, job.name, *places, device, monitor, workers, job.identifier)
