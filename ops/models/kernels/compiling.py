"""How loops are compiled, on how many threads they run, and what they see of a tensor."""

from typing import Any

import numpy as np
import torch

OPTIONS: dict[str, Any] = {
    "parallel": True,
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    # contraction and division rounding only: sums keep their order, so that the same input gives the same bytes
    "fastmath": {"contract", "nsz"},
}


def match_threads() -> int:
    """Let compiled loops use as many threads as torch does, and leave torch its own; return how many that are.

    numba starts its threads at the first call, and OpenMP then forgets how many torch was told to use.
    """
    from numba import config, set_num_threads

    threads = torch.get_num_threads()
    compiled = min(threads, int(config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    set_num_threads(compiled)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return compiled


def pixels_of(x: torch.Tensor) -> np.ndarray:
    """Return channels_last images (N, C, H, W) as an array (N, H, W, C) of the same memory."""
    return x.detach().permute(0, 2, 3, 1).numpy()
