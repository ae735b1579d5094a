"""Images under other class priors, by weights and by drawing again; the same draws for every model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ops.evaluate.shift.priors import Prior, image_weights
from ops.runtime import derive_seed

BLOCK = 200
"""Bootstrap replicates drawn at a time."""


@dataclass(frozen=True)
class Simulation:
    """A split under several class priors."""

    labels: np.ndarray
    """(N,) int64."""
    priors: Sequence[Prior]
    weights: np.ndarray
    """(P, N): of every image under every prior, each prior's sum 1."""
    unlabelled: np.ndarray
    """(P, S, N): how often each image is in each sample of unlabelled images."""
    replicates: int
    seed: int


def simulate(
    labels: np.ndarray, priors: Sequence[Prior], unlabelled: int, samples: int, replicates: int, seed: int
) -> Simulation:
    """Return the weights under all `priors`, and `samples` seeded samples of `unlabelled` images each.

    Images are drawn with replacement and with the weights as probabilities: classes as the prior has them, and the images
    of a class alike.
    """
    weights = np.stack([image_weights(labels, prior.share) for prior in priors])
    draws = [
        np.random.default_rng(derive_seed(seed, "unlabelled", prior.name)).multinomial(unlabelled, each, samples)
        for prior, each in zip(priors, weights, strict=True)
    ]
    return Simulation(labels, priors, weights, np.stack(draws), replicates, seed)


def bootstrap_sums(values: np.ndarray, labels: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Return the sums (R, C) of drawn rows of `values` (N, C), images drawn with replacement within their class.

    An image counts as often as it was drawn: the drawn rows themselves would not fit into memory.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = []
    for start in range(0, replicates, BLOCK):
        rows = min(BLOCK, replicates - start)
        draws = np.concatenate([m[rng.integers(0, len(m), (rows, len(m)))] for m in members], axis=1)
        flat = draws + len(labels) * np.arange(rows)[:, None]
        counts = np.bincount(flat.ravel(), minlength=rows * len(labels)).reshape(rows, -1)
        found.append(counts @ values)
    return np.concatenate(found)
