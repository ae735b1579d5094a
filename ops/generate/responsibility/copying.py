"""Three statistics of copying, from distances of generated images g to training images T and held-out images V.

None of them tells copying apart from a generator that is merely poor in some other way, and all look at the whole: single
copies are found in `ops.generate.responsibility.copies`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, hypergeom, norm, rankdata

from ops.evaluate.intervals import Interval, wilson
from ops.generate.responsibility.neighbours import count_nearer, nearest, nearest_others

TINY = 1e-12


@dataclass(frozen=True)
class CellTest:
    """C_T, cell by cell."""

    c_t: Interval
    worst: float
    """The lowest z-score of a cell."""
    cells: int
    """How many were used."""
    images: int
    """Generated images in these."""


def closeness(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Interval:
    """Return the share of `generated` (N, D) with d(g, T) < d(g, V), as many training as held-out images compared.

    1/2 is expected where training and held-out images are alike for the generator; copies give up to 1. Of the larger set
    as many as the smaller has are drawn in every possible way: with k of its n images nearer than the nearest of the
    other set, none of them is among m with the probability C(n - k, m) / C(n, m). Equal distances count half.

    The ends are Wilson's for as many yes-or-no outcomes, which vary more than these probabilities.
    """
    if len(train) >= len(held_out):
        chance = 1 - _none_nearer(generated, train, nearest(generated, held_out)[0][:, 0], len(held_out))
    else:
        chance = _none_nearer(generated, held_out, nearest(generated, train)[0][:, 0], len(train))
    return _share(chance)


def closeness_of_held_out(train: np.ndarray, held_out: np.ndarray) -> Interval:
    """Return the same for the held-out images (M, D) themselves, M > 1, each against the others: what their likeness does."""
    if len(train) >= len(held_out) - 1:
        return _share(1 - _none_nearer(held_out, train, nearest_others(held_out), len(held_out) - 1))
    return _share(_none_nearer(held_out, held_out, nearest(held_out, train)[0][:, 0], len(train), themselves=1))


def distance_ratio(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray, seed: int) -> Interval:
    """Return the median of d(g, T) / d(g, V) over `generated` (N, D), as many training as held-out images compared.

    Of the larger set a random part is taken, by `seed`. 1 is expected where `closeness` is 1/2; copies are at 0. The ends are
    the order statistics that hold the median with 95 % (binomial), without an assumption on the ratios.
    """
    rng, count = np.random.default_rng(seed), min(len(train), len(held_out))
    parts = [points[np.sort(rng.permutation(len(points))[:count])] for points in (train, held_out)]
    to_train, to_held_out = (nearest(generated, points)[0][:, 0] for points in parts)
    ratios = np.sort(to_train / np.maximum(to_held_out, TINY))
    low, high = (int(binom.ppf(p, len(ratios), 0.5)) for p in (0.025, 0.975))
    return float(np.median(ratios)), float(ratios[max(low - 1, 0)]), float(ratios[min(high, len(ratios) - 1)])


def authenticity(distances: np.ndarray, places: np.ndarray, spacing: np.ndarray) -> Interval:
    """Return the share of images that are authentic: farther from their nearest training image than that is from others.

    d(g, t*) > d(t*, nearest other training image), Alaa et al. (2022), How faithful is your synthetic data?

    Args:
        distances: (N,) of each image to its nearest training image t*.
        places: (N,) of t* among the training images.
        spacing: (n,) of each training image to its nearest other one.
    """
    return wilson(int((distances > spacing[places]).sum()), len(distances))


def data_copying(
    generated: np.ndarray, held_out: np.ndarray, cells_g: np.ndarray, cells_v: np.ndarray, least: int
) -> CellTest | None:
    """Return C_T of Meehan, Chaudhuri and Dasgupta (2020), A non-parametric test to detect data-copying; None without cells.

    In each cell, U counts pairs in which the generated image is farther from the training images than the held-out one;
    z = (U - mean) / deviation under the hypothesis that both are as far. C_T is the mean of z, weighted by the cells'
    held-out images: far below 0 are copies, far above a poor fit.

    Two things differ from the authors' code: the nearest training image may be in another cell, and the deviation is
    corrected for ties, of which a generator that copies has many. The interval is ours: DeLong et al. (1988) for U in every
    cell, images counted as independent.

    Args:
        generated: (N,) distances to the nearest training image.
        held_out: (M,) the same of the held-out images.
        cells_g: (N,) the cell of each.
        cells_v: (M,) likewise.
        least: cells with fewer of either are dropped.
    """
    scores, variances, weights, used = [], [], [], 0
    for cell in np.unique(cells_v):
        g, v = generated[cells_g == cell], held_out[cells_v == cell]
        if min(len(g), len(v)) < least:
            continue
        score, variance = mann_whitney(g, v)
        scores.append(score)
        variances.append(variance)
        weights.append(len(v))
        used += len(g)
    if not scores:
        return None
    share = np.array(weights) / np.sum(weights)
    value = float(share @ scores)
    half = norm.ppf(0.975) * float(share**2 @ np.array(variances)) ** 0.5
    return CellTest((value, value - half, value + half), float(min(scores)), len(scores), used)


def mann_whitney(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the z-score of Mann and Whitney's U of `ours` (m,) against `theirs` (n,), and the variance of that score.

    Positive where `ours` are larger. The variance is not that under the hypothesis, 1, but at the difference found
    (DeLong et al. 1988); at least two of either. 0 and 0 where all values are equal.
    """
    m, n = len(ours), len(theirs)
    ranks = rankdata(np.concatenate([ours, theirs]))
    above = (ranks[:m] - rankdata(ours)) / n  # share of theirs that each of ours is above; ties count half
    below = 1 - (ranks[m:] - rankdata(theirs)) / m
    ties = np.unique(np.concatenate([ours, theirs]), return_counts=True)[1].astype(np.float64)
    total = m + n
    deviation = np.sqrt(m * n / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1))))
    if deviation == 0:
        return 0.0, 0.0
    scale = m * n / deviation
    variance = np.var(above, ddof=1) / m + np.var(below, ddof=1) / n
    return float(scale * (above.mean() - 0.5)), float(scale**2 * variance)


def _none_nearer(
    queries: np.ndarray, points: np.ndarray, radii: np.ndarray, drawn: int, themselves: int = 0
) -> np.ndarray:
    """Return the probability (N,) that none of `drawn` of `points` is nearer than the radius; equal counts half.

    `themselves` is 1 where the queries are the points: then each is not among those that are drawn.
    """
    counts = [np.maximum(nearer - themselves, 0) for nearer in count_nearer(queries, points, radii)]
    strict, weak = (hypergeom.pmf(0, len(points) - themselves, nearer, drawn) for nearer in counts)
    return np.asarray((strict + weak) / 2)


def _share(chance: np.ndarray) -> Interval:
    """Return the mean of probabilities (N,) with the Wilson interval of the nearest whole count."""
    value = float(chance.mean())
    _, low, high = wilson(round(value * len(chance)), len(chance))
    return value, min(low, value), max(high, value)
