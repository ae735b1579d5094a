"""The processes of a distributed training (torchrun), or the only one."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

from ops.errors import AmalgamError


@dataclass(frozen=True)
class Workers:
    """The place of this process among all that train one classifier together.

    Every process draws the whole batch and works on its own rows: what is drawn does not depend on how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, saves and reports."""
        return self.rank == 0

    def rows(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's rows of a batch (B, ...)."""
        return batch.chunk(self.count)[self.rank]

    def check(self, batch: int, accumulate: int) -> None:
        """Raise AmalgamError unless a batch can be cut into equal parts."""
        if batch % (self.count * accumulate):
            raise AmalgamError(
                f"a batch of {batch} cannot be shared by {self.count} processes in {accumulate} parts each",
                f"set schedule.batch to a multiple of {self.count * accumulate}",
            )

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes, in all of them."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a number over all processes, whose parts of a batch are equal."""
        return self.total(value) / self.count

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


def join_workers(device: torch.device) -> Workers:
    """Return this process's place under torchrun, connected to the others; the only one outside torchrun."""
    if not dist.is_torchelastic_launched():
        return Workers()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Workers(dist.get_rank(), dist.get_world_size())
