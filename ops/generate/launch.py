"""Training of the diffusion model as a job: in this process, or in several under torchrun."""

from pathlib import Path

import torch

from ops.config import Config
from ops.generate.diffusion import train_diffusion
from ops.generate.model_config import DiffusionConfig
from ops.processes import run_in_processes, run_worker
from ops.progress import Monitor
from ops.summary import Summary
from ops.train.workers import Workers


class DiffusionJob(Config):
    """The arguments of `train_diffusion`, as a file."""

    config: DiffusionConfig
    shards: Path
    autoencoder: Path
    start: Path | None
    out: Path
    scratch: Path
    cache: Path
    device: str


def train_diffusion_in(processes: int, job: DiffusionJob, monitor: Monitor) -> Summary:
    """Run `job` in this process, or in several processes on this machine; see `train_diffusion`."""
    if processes > 1:
        return run_in_processes("ops.generate", job, job.scratch, processes, monitor)
    return _train(job, torch.device(job.device), monitor, Workers())


def run_job(path: Path) -> None:
    """Do this process's share of the job in the file `path`."""
    job = DiffusionJob.model_validate_json(path.read_text(encoding="utf-8"))
    run_worker(job.device, lambda device, monitor, workers: _train(job, device, monitor, workers))


def _train(job: DiffusionJob, device: torch.device, monitor: Monitor, workers: Workers) -> Summary:
    places = (job.shards, job.autoencoder, job.out, job.scratch, job.cache)
    return train_diffusion(job.config, *places, device, monitor, job.start, workers)
