"""How loops are compiled, on how many threads they run, and what they see of a tensor."""

import hashlib
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.files import replacing

OPTIONS: dict[str, Any] = {
    "parallel": True,
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    # contraction and division rounding only: sums keep their order, so that the same input gives the same bytes
    "fastmath": {"contract", "nsz"},
}
INNER = {**OPTIONS, "parallel": False}
"""Of functions that loops call."""
_MATCHED = threading.local()


def forget_stale(folder: Path) -> None:
    """Remove what was compiled from other sources than those in `folder`.

    numba compiles a loop again when the loop's own file changes, but not when a function that it calls does.
    """
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()
    cache, stamp = folder / "__pycache__", folder / "__pycache__" / "sources.sha256"
    if stamp.exists() and stamp.read_text() == sources:
        return
    with suppress(OSError):  # where the folder cannot be written to, nothing was compiled into it
        for compiled in [*cache.glob("*.nbi"), *cache.glob("*.nbc")]:
            compiled.unlink(missing_ok=True)
        with replacing(stamp) as temporary:
            temporary.write_text(sources)


def match_threads() -> int:
    """Let compiled loops use as many threads as torch does, and leave torch its own; return how many that are.

    numba starts its threads at the first call, and OpenMP then forgets how many torch was told to use. Each thread of the
    program has its own number; where it is right already, nothing is asked of numba, which takes longer than small loops.
    """
    threads = torch.get_num_threads()
    if getattr(_MATCHED, "threads", None) == threads:
        return int(_MATCHED.compiled)
    from numba import config, set_num_threads

    compiled = min(threads, int(config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    set_num_threads(compiled)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    _MATCHED.threads, _MATCHED.compiled = threads, compiled
    return compiled


def pixels_of(x: torch.Tensor) -> np.ndarray:
    """Return channels_last images (N, C, H, W) as an array (N, H, W, C) of the same memory."""
    return x.detach().permute(0, 2, 3, 1).numpy()


def aligned(*shape: int) -> np.ndarray:
    """Return memory that begins at a line of the cache, as numpy's may not: a vector across two lines is two accesses."""
    return torch.empty(shape).numpy()


forget_stale(Path(__file__).parent)
