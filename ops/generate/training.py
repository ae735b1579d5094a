"""What the training loops of the generator share."""

import math

import numpy as np

from ops.errors import AmalgamError
from ops.runtime import derive_seed


def draw_batch(weights: np.ndarray, batch: int, *seed: int | str) -> np.ndarray:
    """Return `batch` indices drawn in proportion to `weights` (N,); the draw follows from `seed` alone."""
    rng = np.random.default_rng(derive_seed(*seed))
    edges = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(edges, rng.random(batch) * edges[-1], side="right").clip(max=len(weights) - 1)


def check_finite(loss: float, what: str, step: int) -> None:
    """Raise AmalgamError if the loss is not a number."""
    if not math.isfinite(loss):
        raise AmalgamError(
            f"the loss of {what} is {loss} at step {step}",
            f"lower {what}.lr in params.yaml, or set {what}.bf16 to false",
        )
