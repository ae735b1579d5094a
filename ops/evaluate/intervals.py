"""How sure a number is: intervals for shares, gaps and differences on the same images."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest, norm

Interval = tuple[float, float, float]
"""Estimate, lower and upper end of the 95 % interval."""


def wilson(successes: int, count: int) -> Interval:
    """Return a share with its Wilson score interval; (nan, nan, nan) for no observations."""
    if count == 0:
        return (float("nan"),) * 3
    interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return successes / count, float(interval.low), float(interval.high)


def wilson_intervals(successes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return `wilson` of many shares at once, (3, ...) for successes and counts (...); nan for no observations.

    The formula of Wilson (1927); SciPy takes one share at a time.
    """
    z2 = norm.ppf(0.975) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = successes / np.asarray(counts, np.float64)
        centre = (share + z2 / (2 * counts)) / (1 + z2 / counts)
        half = np.sqrt(z2 * (share * (1 - share) / counts + z2 / (4 * np.square(counts)))) / (1 + z2 / counts)
    # at the ends rounding would leave the share outside
    return np.stack([share, np.minimum((centre - half).clip(0), share), np.maximum((centre + half).clip(max=1), share)])


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray, strata: np.ndarray, replicates: int, seed: int
) -> Interval:
    """Return a statistic of `values` (N, ...) with its percentile bootstrap interval; see `resampled`."""
    estimate = float(statistic(values[None])[0])
    low, high = np.nanpercentile(resampled(statistic, values, strata, replicates, seed), [2.5, 97.5])
    return estimate, float(low), float(high)


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray, strata: np.ndarray, replicates: int, seed: int
) -> np.ndarray:
    """Return a statistic of `values` (N, ...) in bootstrap samples (replicates,).

    Rows are resampled within each stratum (N,), so that group sizes stay; `statistic` maps resampled rows (R, N, ...) to
    (R,). Rows are whole images: what several models or seeds do on one image stays together (a paired bootstrap).
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    order = np.concatenate(members)
    found = []
    for start in range(0, replicates, 200):
        count = min(200, replicates - start)
        draws = [m[rng.integers(0, len(m), (count, len(m)))] for m in members]
        rows = np.empty((count, len(values)), np.int64)
        rows[:, order] = np.concatenate(draws, axis=1)
        found.append(statistic(values[rows]))
    return np.concatenate(found)


def group_gap(groups: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistic max_g - min_g of the groups' mean outcome, for outcomes (R, N) and groups (N,)."""
    means_of = group_means(groups)

    def gap(outcomes: np.ndarray) -> np.ndarray:
        means = means_of(outcomes)
        return means.max(axis=1) - means.min(axis=1)

    return gap


def group_means(groups: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from outcomes (R, N) to the mean of each group (R, G), for groups (N,), sorted by name."""
    onehot = (groups[:, None] == np.unique(groups)[None, :]).astype(np.float64)

    def means(outcomes: np.ndarray) -> np.ndarray:
        found: np.ndarray = outcomes.astype(np.float64) @ onehot / onehot.sum(axis=0)
        return found

    return means
