"""Settings of where and how steps run; no result depends on them."""

from typing import Literal

from pydantic import Field

from ops.config import Config


class Ray(Config):
    """Workers that fill shards of synthetic images, on this machine or on a cluster; they share the store's file system."""

    address: str | None = Field(None, description="Of a Ray cluster (`auto`, `host:port`); null starts one here.")
    workers: int = Field(1, ge=1, description="Workers, each with a generator of its own in memory.")
    cpus: float = Field(1, gt=0, description="Cores of a worker.")
    gpus: float = Field(0, ge=0, description="GPUs of a worker; a share such as 0.5 lets two use one.")
    restarts: int = Field(3, ge=0, description="How often a worker that died is replaced; it loses its current shard.")


class Compute(Config):
    """Where and how steps run. Not part of any version: results do not depend on it (up to floating point)."""

    executor: Literal["in_process", "multiprocess"] = Field("in_process", description="How Dagster runs steps.")
    max_concurrent: int = Field(1, ge=1, description="Steps at a time under `multiprocess`.")
    processes: int = Field(1, ge=1, description="Processes (torchrun) that train one classifier together.")
    ray: Ray | None = Field(None, description="Ray workers that make shards of synthetic images; null: the step does.")
    device: str = Field("auto", description="A torch device; `auto` is the first accelerator, else the CPU.")
