"""What the training loops of the generator share."""

import math
from collections.abc import Sequence

import numpy as np

from ops.errors import AmalgamError
from ops.runtime import derive_seed


def draw_batch(weights: np.ndarray, batch: int, *seed: int | str) -> np.ndarray:
    """Return `batch` indices drawn in proportion to `weights` (N,); the draw follows from `seed` alone."""
    rng = np.random.default_rng(derive_seed(*seed))
    edges = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(edges, rng.random(batch) * edges[-1], side="right").clip(max=len(weights) - 1)


def check_finite(loss: float, what: str, step: int, ids: Sequence[str] = ()) -> None:
    """Raise AmalgamError if the loss is not a number; it names step and images `ids` of the batch, where given."""
    if not math.isfinite(loss):
        images = f"; the batch holds {', '.join(sorted(set(ids)))}" if ids else ""
        raise AmalgamError(
            f"the loss of {what} is {loss} at step {step}{images}",
            f"lower {what}.lr in params.yaml, or compute in float32; if it stays, look at the images",
        )
