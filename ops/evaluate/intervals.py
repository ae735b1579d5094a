"""How sure a number is: intervals for shares, gaps and differences on the same images."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest

Interval = tuple[float, float, float]
"""Estimate, lower and upper end of the 95 % interval."""


def wilson(successes: int, count: int) -> Interval:
    """Return a share with its Wilson score interval; (nan, nan, nan) for no observations."""
    if count == 0:
        return (float("nan"),) * 3
    interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return successes / count, float(interval.low), float(interval.high)


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
    onehot = (groups[:, None] == np.unique(groups)[None, :]).astype(np.float64)

    def gap(outcomes: np.ndarray) -> np.ndarray:
        means = outcomes.astype(np.float64) @ onehot / onehot.sum(axis=0)
        return means.max(axis=1) - means.min(axis=1)

    return gap
