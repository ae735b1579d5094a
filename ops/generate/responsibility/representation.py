"""Whom a generator shows when it is not told: shares of tones, genders or domains for neutral prompts.

A classifier, the judge, says what it sees, as in the fairness evaluation of the Imagen 3 report; it errs, and more often on
some groups than on others. So two distributions are reported: as perceived, and corrected for the errors that the judge
makes on real held-out images. The correction assumes that it errs alike on generated images. The shares are compared with
the training data and with parity.
"""

from dataclasses import dataclass

import numpy as np

from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval, wilson
from ops.generate.responsibility.config import RepresentationConfig
from ops.runtime import derive_seed

SMOOTHING = 0.5
"""Added to every count of the judge's confusion (Jeffreys): what never happened on a few images may still happen."""
TOLERANCE, ITERATIONS = 1e-6, 2000
"""EM is finished when no share moves by more, or after so many rounds."""


@dataclass(frozen=True)
class Perceived:
    """What a judge sees along one axis in the images of neutral prompts."""

    categories: tuple[str, ...]
    seen: np.ndarray
    """(N,) int64, the category that the judge sees in each image."""
    prompts: np.ndarray
    """(N,) the prompt of each image, as any values that can be compared."""
    confusion: np.ndarray
    """(K, K) int64, real held-out images by true category (row) and category seen (column)."""
    data: np.ndarray
    """(K,) int64, training images by category."""


@dataclass(frozen=True)
class Representation:
    """The shares of one axis."""

    categories: tuple[str, ...]
    perceived: list[Interval]
    corrected: list[Interval]
    data: list[float]
    distances: dict[str, Interval]
    """Total variation: `perceived` and `corrected`, each `to the data` and `to parity`."""
    homogeneous: Interval
    """Share of the prompts whose images are all seen in one category."""
    homogeneous_by_chance: float
    """What that would be if the images of a prompt were independent draws from the perceived shares."""
    images: int
    prompts: int


def measure_representation(config: RepresentationConfig, axis: str, found: Perceived) -> Representation:
    """Return the shares of one axis, with bootstrap intervals.

    Each replicate draws prompts with all their images, which are not independent, and the judge's confusion from its
    posterior (Dirichlet): the intervals of corrected shares are wide where the judge is poor, or saw few real images.

    Args:
        config: replicates and seed.
        axis: its name, which seeds the bootstrap and is named in errors.
        found: what the judge saw.

    Raises:
        AmalgamError: there is no image, or the judge was not tried on real images of every category.
    """
    _check(axis, found)
    size = len(found.categories)
    _, prompt = np.unique(found.prompts, return_inverse=True)
    table = np.zeros((int(prompt.max()) + 1, size))
    np.add.at(table, (prompt, found.seen), 1)
    rng = np.random.default_rng(derive_seed(config.seed, "representation", axis))
    drawn = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=config.replicates) @ table
    counts = np.concatenate([table.sum(axis=0)[None], drawn])
    perceived = counts / counts.sum(axis=1, keepdims=True)
    smoothed = found.confusion + SMOOTHING
    confusions = np.stack([rng.dirichlet(row, size=config.replicates) for row in smoothed], axis=1)
    estimate = smoothed / smoothed.sum(axis=1, keepdims=True)
    corrected = corrected_shares(perceived, np.concatenate([estimate[None], confusions]))
    data, parity = found.data / found.data.sum(), np.full(size, 1 / size)
    several = table.sum(axis=1) > 1
    alike = (table.max(axis=1) == table.sum(axis=1)) & several
    chance = (perceived[0][None, :] ** table[several].sum(axis=1)[:, None]).sum(axis=1)
    return Representation(
        found.categories,
        perceived=[_interval(perceived[:, k]) for k in range(size)],
        corrected=[_interval(corrected[:, k]) for k in range(size)],
        data=data.tolist(),
        distances={
            f"{name} to {target}": _interval(total_variation(shares, other))
            for name, shares in (("perceived", perceived), ("corrected", corrected))
            for target, other in (("the data", data), ("parity", parity))
        },
        homogeneous=wilson(int(alike.sum()), int(several.sum())),
        homogeneous_by_chance=float(chance.mean()) if several.any() else float("nan"),
        images=len(found.seen),
        prompts=len(table),
    )


def corrected_shares(perceived: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Return the shares p (S, K) that best explain the perceived ones q (S, K), by maximum likelihood.

    q_j = sum_i p_i C_ij, C_ij the probability to see j in an image of i. Where the inverse of C^T gives a distribution, it
    is this one; elsewhere the inverse leaves the simplex, and EM, which does not, climbs to the likeliest on it (the
    procedure of Saerens et al. 2002, for a judge that tells only what it sees).

    Args:
        perceived: (S, K), rows sum to 1.
        confusion: (S, K, K), rows sum to 1, all above 0.
    """
    shares = np.full_like(perceived, 1 / perceived.shape[1])
    moving = np.arange(len(shares))
    for _ in range(ITERATIONS):
        old, sees = shares[moving], confusion[moving]
        explained = np.einsum("si,sij->sj", old, sees)
        shares[moving] = old * np.einsum("sj,sij->si", perceived[moving] / explained, sees)
        moving = moving[np.abs(shares[moving] - old).max(axis=1) > TOLERANCE]
        if not len(moving):
            break
    return shares


def total_variation(shares: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return half the sum of absolute differences (S,) of distributions (S, K) and (K,)."""
    return np.asarray(np.abs(shares - other).sum(axis=1) / 2)


def _check(axis: str, found: Perceived) -> None:
    size = len(found.categories)
    if not len(found.seen) or found.confusion.shape != (size, size) or found.data.shape != (size,):
        raise AmalgamError(
            f"{axis}: {len(found.seen)} images, a confusion of {found.confusion.shape} and data of {found.data.shape} do "
            f"not describe {size} categories",
            "judge some images, and count real ones by the same categories",
        )
    if without := [c for c, n in zip(found.categories, found.confusion.sum(axis=1), strict=True) if not n]:
        raise AmalgamError(
            f"{axis}: the judge was not tried on real images of {', '.join(without)}",
            "judge held-out images of every category, or leave the category out",
        )


def _interval(values: np.ndarray) -> Interval:
    """Return the estimate, which is first, and the percentiles of the replicates after it."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return float(values[0]), min(float(low), float(values[0])), max(float(high), float(values[0]))
