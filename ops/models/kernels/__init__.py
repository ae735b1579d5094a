"""Compiled loops on the CPU, which nothing imports before it needs one: importing the compiler takes a second."""

from importlib import import_module
from typing import Any

import torch

OPTIONS: dict[str, Any] = {
    "parallel": True,
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    # contraction and division rounding only: sums keep their order, so that the same input gives the same bytes
    "fastmath": {"contract", "nsz"},
}


def load_kernels(name: str) -> Any:
    """Return the module `name` of this package; its loops use as many threads as torch does."""
    from numba import config, set_num_threads

    set_num_threads(min(torch.get_num_threads(), config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    return import_module(f"{__name__}.{name}")
