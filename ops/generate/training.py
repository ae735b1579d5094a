"""What the training loops of the generator share."""

import math
from collections.abc import Sequence

import numpy as np

from ops.errors import AmalgamError
from ops.runtime import derive_seed

NAMED = 16
"""At most so many images are named in an error."""


def draw_batch(weights: np.ndarray, batch: int, *seed: int | str) -> np.ndarray:
    """Return `batch` indices drawn in proportion to `weights` (N,); the draw follows from `seed` alone."""
    rng = np.random.default_rng(derive_seed(*seed))
    edges = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(edges, rng.random(batch) * edges[-1], side="right").clip(max=len(weights) - 1)


def check_finite(loss: float, what: str, step: int, ids: Sequence[str] | None = None) -> None:
    """Raise AmalgamError if the loss is not a number; `ids` are those of the batch's images, which the message names."""
    if math.isfinite(loss):
        return
    where, look = "", ""
    if ids is not None:
        shown = ", ".join(map(str, ids[:NAMED]))
        where = f", on images {shown}" + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
        look = "; if it stops at the same images again, look at those"
    raise AmalgamError(
        f"the loss of {what} is {loss} at step {step}{where}",
        f"lower {what}.lr in params.yaml, or compute in float32{look}",
    )
