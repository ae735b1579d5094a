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


def match_threads() -> None:
    """Let compiled loops use as many threads as torch does, and leave torch its own.

    numba starts its threads at the first call, and OpenMP then forgets how many torch was told to use.
    """
    from numba import config, set_num_threads

    threads = torch.get_num_threads()
    set_num_threads(min(threads, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def pixels_of(x: torch.Tensor) -> np.ndarray:
    """Return channels_last images (N, C, H, W) as an array (N, H, W, C) of the same memory."""
    return x.detach().permute(0, 2, 3, 1).numpy()
