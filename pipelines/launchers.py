"""Where the pieces of large jobs run beyond this process: workers of Ray."""

import math
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from ops.errors import AmalgamError
from ops.launching import Job
from ops.progress import Monitor, Silent
from ops.runtime import SPINS, configure_torch, pick_device
from pipelines.compute import Ray
from pipelines.project import ROOT

LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray reads this when it is imported; "0" has it listen on the loopback interface alone, as it does on those systems."""


class RayLauncher:
    """Workers that take piece after piece, whoever is free (`ops.launching.Launcher`).

    A worker opens what the job needs once. One that dies is replaced, and its piece done again: what it had finished is in
    files, so that this piece is all that is lost. What workers and this process tell each other is pickled by Ray and never
    kept: no artefact is.
    """

    def __init__(self, config: Ray, device: str) -> None:
        self.config, self.device = config, device

    def run(self, job: Job, pieces: Sequence[int], monitor: Monitor) -> Iterator[int]:
        """Do all pieces and yield what each returned, in the order in which they end.

        Raises the AmalgamError of a piece, and one of its own if workers die too often or the cluster is not there.
        """
        started = connect(self.config)
        import ray
        from ray.util import ActorPool

        workers: list[Any] = []
        try:
            kind = ray.remote(
                num_cpus=self.config.cpus,
                num_gpus=self.config.gpus,
                max_restarts=self.config.restarts,
                max_task_retries=self.config.restarts,
            )(Worker)
            # more workers than pieces would open generators for nothing
            workers = [kind.remote(job, self.device) for _ in range(min(self.config.workers, len(pieces)))]
            monitor.note(f"{len(workers)} Ray worker(s) with {self.config.cpus:g} core(s) each")
            pool: Any = ActorPool(workers)  # its annotations are narrower than what it takes
            yield from pool.map_unordered(lambda worker, piece: worker.do.remote(piece), pieces)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AmalgamError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise AmalgamError(
                f"a Ray worker died more than {self.config.restarts} times: {str(error).splitlines()[0]}",
                "finished shards are kept: run again with fewer workers, or with more memory for each (compute.ray)",
            ) from None
        finally:
            for worker in workers:
                ray.kill(worker)
            if started:
                ray.shutdown()


def connect(config: Ray) -> bool:
    """Join the cluster of `config`, or start one that only this machine can reach; return whether this call did it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if config.address is None:
        os.environ.setdefault(LOOPBACK_ONLY, "0")
    import ray

    if ray.is_initialized():
        return False
    environment = {"env_vars": {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}}
    settings: dict[str, Any] = {"runtime_env": environment, "logging_level": "WARNING", "log_to_driver": False}
    if config.address is None:
        cores = math.ceil(config.workers * config.cpus)
        settings |= {"num_cpus": cores, "include_dashboard": False}
    try:
        _probe(config.address)
        ray.init(address=config.address, **settings)
    except (OSError, ValueError) as error:
        raise AmalgamError(
            f"no Ray cluster answers at {config.address}: {error}",
            "start one (`ray start --head`), name its address in compute.ray.address, or set that to null",
        ) from None
    return True


def _probe(address: str | None) -> None:
    """Raise OSError if nothing listens at `address`, a host and a port; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


class Worker:
    """One process of Ray's: a job and the device that it is done on."""

    def __init__(self, job: Job, device: str) -> None:
        configure_torch()
        self.job, self.device = job, pick_device(device)

    def do(self, piece: int) -> int:
        """Do one piece."""
        return self.job(piece, self.device, Silent())
