"""Do generated images add what training images lack? Nearest neighbours among training, held-out and generated images.

Gowal et al. (2021), Improving Robustness using Generated Data, look in features for the nearest neighbour of each generated
image, in a pool of training, held-out and the other generated images, as many of each. Images that are as real as they are new
have it in all three alike. Mostly training images: nothing is new. Mostly each other: they are unlike real images, or alike.
"""

from dataclasses import dataclass

import numpy as np

from ops.evaluate.intervals import Interval, bootstrap, wilson
from ops.generate.responsibility.neighbours import nearest, nearest_others

TRAIN, HELD_OUT, ITSELF = 0, 1, 2
KINDS = ("a training image", "a held-out image", "another of its own")


@dataclass(frozen=True)
class Complementarity:
    """Of one set of images."""

    shares: tuple[Interval, Interval, Interval]
    """Shares of images whose nearest neighbour is of each of `KINDS`, with Wilson's intervals."""
    evenness: Interval
    """Entropy of the shares over ln 3: 1 where all three are alike, 0 where all neighbours are of one kind."""
    coverage: Interval
    """Share of the real images that are the nearest neighbour of an image of the set."""


def neighbour_kinds(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of which kind the nearest neighbour of each of `generated` (N, D) is, and its place among those (N,) int64.

    `train` (N, D) and `held_out` (N, D) are as many, since shares follow from the sizes; N > 1. Equal distances: the
    first of `KINDS`, so that a copy of a training image counts as that, however often it is repeated. The place of an
    image's own kind is -1.

    Raises ValueError for sets of different sizes.
    """
    if not len(generated) == len(train) == len(held_out):
        raise ValueError(f"{len(generated)}, {len(train)} and {len(held_out)} images: shares need as many of each kind")
    to_train, near_train = nearest(generated, train)
    to_held_out, near_held_out = nearest(generated, held_out)
    distances = np.column_stack([to_train[:, 0], to_held_out[:, 0], nearest_others(generated)])
    kinds = distances.argmin(axis=1)
    places = np.column_stack([near_train[:, 0], near_held_out[:, 0], np.full(len(generated), -1)])
    return kinds, places[np.arange(len(kinds)), kinds]


def complementarity(
    generated: np.ndarray, train: np.ndarray, held_out: np.ndarray, replicates: int, seed: int
) -> Complementarity:
    """Return what `neighbour_kinds` finds, summed up; images count as independent, and the pools as given.

    Coverage counts real images, and has the interval of a share of these.
    """
    kinds, places = neighbour_kinds(generated, train, held_out)
    counts = np.bincount(kinds, minlength=len(KINDS))
    shares = tuple(wilson(int(count), len(kinds)) for count in counts)
    value, low, high = bootstrap(
        lambda drawn: evenness(drawn.mean(axis=1)), np.eye(len(KINDS))[kinds], np.zeros(len(kinds)), replicates, seed
    )
    covered = sum(len(np.unique(places[kinds == kind])) for kind in (TRAIN, HELD_OUT))
    return Complementarity(
        (shares[TRAIN], shares[HELD_OUT], shares[ITSELF]),
        (value, min(low, value), max(high, value)),
        wilson(covered, len(train) + len(held_out)),
    )


def evenness(shares: np.ndarray) -> np.ndarray:
    """Return the entropy of shares (R, K), over its largest value ln K: numbers (R,) from 0 to 1."""
    from scipy.stats import entropy

    return np.clip(entropy(shares, axis=1, base=shares.shape[1]), 0, 1)
