"""What an asset may ask of the machinery around it.

Assets know these two protocols and nothing of where artefacts lie, how they are versioned or who tracks them; the
implementation is `pipelines.steps`.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import dagster as dg

from ops.config import Config
from ops.launching import Launcher
from ops.progress import Monitor
from ops.summary import Summary

if TYPE_CHECKING:
    import torch

C = TypeVar("C", bound=Config)


class Step(Monitor, Protocol):
    """One materialisation in progress; also the monitor that the op reports to."""

    out: Path
    """An empty temporary folder; `finish` puts it in its place in the store."""
    scratch: Path
    """A folder that survives a kill, for resumable state; new whenever the code, parameters or inputs changed."""
    cache: Path
    """A folder shared by all steps for derived data that can be made again."""
    seed: int
    """The training seed: the number in the partition key (`seed-1` is 1), 0 where there is no partition."""

    @property
    def ledger(self) -> Path:
        """A folder that outlives the step, for finished pieces: new when code changed, not when parameters or inputs did.

        What is in it is named by the hash of what it was made from, and of the parameters on which it depends.
        """

    @property
    def device(self) -> "torch.device":
        """The device this step computes on."""

    @property
    def launcher(self) -> Launcher:
        """Where the pieces of jobs that can be split are done."""

    @property
    def processes(self) -> int:
        """How many processes train one classifier together."""

    def config(self, kind: type[C]) -> C:
        """Return this asset's section of the parameters."""

    def parent(self, asset: str) -> Path:
        """Return the folder of a parent; of the same partition, where the parent is partitioned too."""

    def parents(self, prefix: str = "") -> dict[str, Path]:
        """Return all parents' folders by name (`classifier/real/seed-0`), those that start with `prefix`."""

    def finish(self, summary: Summary, checks: list[dg.AssetCheckResult] | None = None) -> dg.MaterializeResult:
        """Publish `out`, version it, tell DVC and MLflow, and return what Dagster should record."""


class Steps(Protocol):
    """Begins steps."""

    def begin(self, context: dg.AssetExecutionContext) -> AbstractContextManager[Step]:
        """Open the step of the asset that `context` belongs to."""


def op(module: str, params: str | None = None, *, training: bool = False) -> dict[str, str | bool]:
    """Return the metadata that ties an asset to its op.

    `module` is the op's module: its source and that of every `ops` module it imports are the asset's code. `params` is
    the section of `params.yaml` that it reads (default: the asset's name). A `training` asset has a run in MLflow.
    """
    metadata: dict[str, str | bool] = {"amalgam/op": module, "amalgam/training": training}
    if params:
        metadata["amalgam/params"] = params
    return metadata
