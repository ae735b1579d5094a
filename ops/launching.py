"""Where the pieces of a large job run: here, or on workers that share the store.

An op that can be split gives a launcher one job and its items; it knows nothing of clusters. The job is a picklable
callable, whose pieces are independent and leave their results in files: whichever worker does one, the bytes are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ops.progress import Monitor

if TYPE_CHECKING:
    import torch

Job = Callable[[int, "torch.device", Monitor], int]
"""Does the piece of this number on a device, and returns how much of the whole it was, in units of progress."""


class Launcher(Protocol):
    """Runs the pieces of a job somewhere."""

    def run(self, job: Job, pieces: Sequence[int], monitor: Monitor) -> Iterator[int]:
        """Do all `pieces` of `job` and yield what each returned as it ends, in any order.

        `monitor` hears from inside a piece only where it runs in this process. An AmalgamError of a piece is raised here.
        """


class Here:
    """The launcher of laptops, notebooks and tests: one piece after the other, in this process."""

    def __init__(self, device: "torch.device") -> None:
        self.device = device

    def run(self, job: Job, pieces: Sequence[int], monitor: Monitor) -> Iterator[int]:
        """Do the pieces in order."""
        for piece in pieces:
            yield job(piece, self.device, monitor)
