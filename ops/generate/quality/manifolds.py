"""Precision, recall, density and coverage: likeness and variety apart, by balls around nearest neighbours."""

from dataclasses import dataclass

import numpy as np

from ops.evaluate.intervals import Interval, bootstrap, wilson

TOLERANCE = 1e-6
"""Share of a radius that rounding may be: one distance is computed in two ways."""
MEMORY = 64
"""Megabytes of distances at a time."""


@dataclass(frozen=True)
class Manifolds:
    """What is inside the balls of what; a ball reaches to the k-th nearest image of its own set."""

    precise: np.ndarray
    """(M,) bool: the generated image is in a ball of a real image."""
    density: np.ndarray
    """(M,) float64: number of balls of real images that the generated image is in, in units of k."""
    recalled: np.ndarray
    """(N,) bool: the real image is in a ball of a generated image."""
    covered: np.ndarray
    """(N,) bool: a generated image is in the ball of the real image."""

    def intervals(self, replicates: int, seed: int) -> dict[str, Interval]:
        """Return the four means with 95 % intervals over the images that are counted; the balls stay as they are.

        Shares have Wilson's interval, density that of the bootstrap. Precision and density count generated images, recall
        and coverage real ones: other images of the *other* set would move the balls, which these intervals do not hold.
        """
        share = {"precision": self.precise, "recall": self.recalled, "coverage": self.covered}
        found = {name: wilson(int(outcomes.sum()), len(outcomes)) for name, outcomes in share.items()}
        strata = np.zeros(len(self.density))
        value, low, high = bootstrap(lambda v: v.mean(axis=1), self.density, strata, replicates, seed)
        return {**found, "density": (value, min(low, value), max(high, value))}


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """Return the distance (n,) from each of the features (n, D) to the k-th nearest other one.

    Raises ValueError for k or fewer features.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(features) <= k:
        raise ValueError(f"{len(features)} images have no {k} neighbours each")
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features).kneighbors()[0]
    return found[:, -1].astype(np.float64)


def manifolds(real: np.ndarray, generated: np.ndarray, k: int) -> Manifolds:
    """Compare real features (N, D) with generated ones (M, D), a block of distances at a time.

    Precision and recall are those of Kynkäänniemi et al. (2019), density and coverage those of Naeem et al. (2020). All
    depend on N and M: compare at equal numbers. Between draws of one distribution, coverage is expected to be
    1 - (N - 1) ... (N - k) / ((M + N - 1) ... (M + N - k)), nearly 1 - 2^-k for N = M.

    Raises ValueError for k or fewer images in a set.
    """
    from sklearn.metrics import pairwise_distances_chunked

    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    around_real, around_generated = (radii(part, k) * (1 + TOLERANCE) for part in (real, generated))
    precise, density = np.zeros(len(generated), bool), np.zeros(len(generated))
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    start = 0
    for block in pairwise_distances_chunked(generated, real, working_memory=MEMORY):
        rows = slice(start, start + len(block))
        inside = block <= around_real
        precise[rows], density[rows] = inside.any(axis=1), inside.sum(axis=1) / k
        covered |= inside.any(axis=0)
        recalled |= (block <= around_generated[rows, None]).any(axis=0)
        start += len(block)
    return Manifolds(precise, density, recalled, covered)
