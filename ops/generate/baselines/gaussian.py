"""A Gaussian for each condition, fitted to the pixels (the simplest generator of Gowal et al. 2021).

    x ~ N(m, (1 - d) S + d v I),   m = sum_i w_i x_i,   S = sum_i w_i (x_i - m)(x_i - m)^T,   v = tr(S) / P

for flattened images x_i of P numbers and weights w_i that sum to 1. Images are fewer than pixels, so S is singular:
d is the shrinkage of Ledoit and Wolf (2004). S, of P^2 numbers, is never formed to draw: with z and e standard normal,

    x = m + sqrt(1 - d) sum_i sqrt(w_i) z_i (x_i - m) + sqrt(d v) e.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from ops.data.loading import ImageSet
from ops.generate.baselines.baseline import Baseline, identity_of, on_grid, to_bytes
from ops.generate.baselines.cells import Cell, Cells, chosen, refuse_single
from ops.generate.baselines.config import BaselinesConfig
from ops.summary import Figure

ROWS = 512
"""Training images that are unpacked at a time."""
BITS = 32
"""Of the grid of coefficients: with a million images all sums stay below 2^53 units."""


@dataclass(frozen=True)
class Fit:
    """The Gaussian of one cell."""

    members: np.ndarray
    """Indices (n,) of the training images that it is made of."""
    share: np.ndarray
    """Their weights (n,) float64, which sum to 1."""
    mean: np.ndarray
    """(P,) float64, in grey levels."""
    shrinkage: float
    """d, in [0, 1]."""
    variance: float
    """v, the mean variance of a pixel."""


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian for each cell."""

    images: np.ndarray
    """All training images (N, H, W, 3) uint8."""
    fits: Mapping[Cell, Fit]

    def sample(self, cell: Cell, random: Sequence[np.random.Generator]) -> np.ndarray:
        """Return one image for each random stream, (N, H, W, 3) uint8."""
        fit = self.fits[cell]
        n = len(fit.members)
        normal = np.stack([rng.standard_normal(n + len(fit.mean)) for rng in random])
        z = on_grid(np.sqrt((1 - fit.shrinkage) * fit.share) * normal[:, :n], BITS)
        x = -z.sum(axis=1, keepdims=True) * fit.mean
        spread = np.zeros_like(x)
        for start in range(0, n, ROWS):
            part = fit.members[start : start + ROWS]
            spread += z[:, start : start + ROWS] @ self.images[part].reshape(len(part), -1).astype(np.float64)
        x += spread
        x += fit.mean
        x += np.sqrt(fit.shrinkage * fit.variance) * normal[:, n:]
        return to_bytes(x, self.images.shape[1:])


def fit_gaussian(config: BaselinesConfig, images: ImageSet, cells: Cells) -> Baseline:
    """Return a Gaussian for each of `cells` as a source.

    Shrinkage is scikit-learn's, of the images sqrt(n w_i) (x_i - m): with equal weights it is Ledoit and Wolf's, and the
    weights enter as they enter S. Takes O(n P^2) time and O(n P) memory for the n images of a cell.

    Raises AmalgamError for a class with a single image.
    """
    refuse_single(cells, "a Gaussian")
    weights = images.table["weight"].to_numpy(np.float64)
    fits = {
        cell: _fit(config, images.images, chosen(members, config.fit_images, config.seed, "gaussian", *cell), weights)
        for cell, members in cells.members.items()
    }
    settings = {"shrinkage": config.gaussian.shrinkage}
    scope = {"attribute": config.attribute, "min_images": config.min_images, "fit_images": config.fit_images}
    identity = identity_of("gaussian", {**settings, **scope, "seed": config.seed}, images, config.attribute)
    lines: list[dict[str, Figure]] = [
        {"condition": cells.describe(cell), "images": len(fit.members), "shrinkage": round(fit.shrinkage, 4)}
        for cell, fit in fits.items()
    ]
    model = Gaussian(images.images, fits)
    sampler = {"baseline": "gaussian", "attribute": config.attribute, **settings}
    return Baseline("gaussian", identity, sampler, config.seed, cells, model, images.images.shape[1:], lines)


def _fit(config: BaselinesConfig, images: np.ndarray, members: np.ndarray, weights: np.ndarray) -> Fit:
    share = weights[members] / weights[members].sum()
    x = images[members].reshape(len(members), -1).astype(np.float64)
    mean = share @ x
    x -= mean
    x *= np.sqrt(len(members) * share)[:, None]
    variance = float(np.square(x).mean())
    shrinkage = float(ledoit_wolf_shrinkage(x, assume_centered=True)) if config.gaussian.shrinkage != "none" else 0.0
    return Fit(members, share, mean, shrinkage, variance)
