"""Threads, devices and randomness: decided once, here.

`OMP_WAIT_POLICY` and `GOMP_SPINCOUNT` must be in the environment before torch is first imported: OpenMP threads that spin
while they wait make torch several times slower as soon as another process wants a core, and those that sleep at once have
to be woken for every operation. Entry points call `prepare_threads` first thing; ops call the rest.
"""

import ctypes
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SPINS = "1000"
"""Looks at the next task before a thread of GNU's OpenMP sleeps: some microseconds. To wake it takes ten times as long."""


def prepare_threads(threads: int | None = None) -> None:
    """Set the thread variables of this process and its children; call before torch is imported.

    `threads` is this process's share of the cores (default: all that the process may use).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads or usable_cores()))


def prepare_worker_threads() -> None:
    """Give a process that torchrun started its share of the cores; torchrun gives each one, whatever the machine has."""
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["GOMP_SPINCOUNT"] = SPINS
    os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure_torch() -> None:
    """Give torch its share of threads and deterministic kernels; results then depend on seeds only."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    _keep_freed_memory()
    torch.use_deterministic_algorithms(True, warn_only=True)
    # nothing here reads uninitialised memory, and filling it takes time in every operation
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the next tensor of that size; other C libraries are left as they are.

    By default a large tensor is new memory from the system, whose first touch costs about as much as computing it.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def pick_device(name: str = "auto") -> "torch.device":
    """Return the torch device called `name`; `auto` is the first accelerator, or the CPU where there is none."""
    import torch

    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all `parts` (for example run seed, purpose, global sample index).

    A hash, not a sum: neighbouring indices give unrelated streams, and any sample can be regenerated alone.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> "torch.Generator":
    """Return a CPU torch generator seeded by `derive_seed(*parts)`."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))
