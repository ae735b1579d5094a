"""Intervals for the worst group and for the gap: extremes of several uncertain numbers, which resampling exaggerates.

The largest of several estimates is too large, and that of bootstrap samples larger still, so that the percentiles of a
resampled gap lie above the true one, the more so the more groups there are. Bounds for all groups at once have no such
bias, as in Tukey's comparisons of all pairs; here the bootstrap gives the distribution of the studentised range.
"""

import numpy as np
from scipy.stats import norm

from ops.evaluate.intervals import Interval

Z = float(norm.ppf(0.975))


def standard_errors(values: np.ndarray, counts: np.ndarray, share: bool) -> np.ndarray:
    """Return the standard error (G,) of each group's value, given samples (R + 1, G) of which the first is as it is.

    Of shares it is that of the share with two successes and two failures more (Agresti and Coull 1998): by the bootstrap a
    share of 1 would be certain. Of others it is that of the bootstrap.
    """
    if not share:
        return np.nanstd(values[1:], axis=0)
    adjusted = (values[0] * counts + 2) / (counts + 4)
    error: np.ndarray = np.sqrt(adjusted * (1 - adjusted) / (counts + 4))
    return error


def gap_interval(values: np.ndarray, errors: np.ndarray, most: float = 1.0) -> Interval:
    """Return max - min over groups with its 95 % interval, given samples (R + 1, G) and standard errors (G,).

    With differences d_gh of groups, their standard errors s_gh and c the 97.5 % quantile of max_gh (d*_gh - d_gh) / s_gh
    over bootstrap samples, the ends are max_gh (d_gh - c s_gh), at least 0, and max_gh (d_gh + 1.96 s_gh), at most `most`,
    which is 1 for shares. The lower end holds all differences at once; the upper one need only hold the pair that truly is
    furthest apart.
    """
    estimate, drawn = values[0], values[1:]
    largest = np.full(len(drawn), -np.inf)
    for group in range(len(errors)):
        difference, error = estimate[group] - estimate, np.hypot(errors[group], errors)
        largest = np.fmax(largest, _largest_ratio(drawn[:, [group]] - drawn - difference, error))
    differences, error = estimate[:, None] - estimate, np.hypot(errors[:, None], errors)
    np.fill_diagonal(error, 0)
    gap = float(differences.max())
    low = float((differences - np.quantile(largest, 0.975) * error).max())
    high = float((differences + Z * error).max())
    return gap, min(max(low, 0.0), gap), max(min(high, most), gap)


def lowest_interval(values: np.ndarray, errors: np.ndarray) -> Interval:
    """Return the minimum over groups with its 95 % interval, given samples (R + 1, G) and standard errors (G,).

    With c the 97.5 % quantile of max_g (v_g - v*_g) / s_g, the ends are min_g (v_g - 1.96 s_g), at least 0, and
    min_g (v_g + c s_g), at most 1.
    """
    estimate, drawn = values[0], values[1:]
    lowest = float(estimate.min())
    factor = np.quantile(_largest_ratio(estimate - drawn, errors), 0.975)
    low, high = float((estimate - Z * errors).min()), float((estimate + factor * errors).min())
    return lowest, min(max(low, 0.0), lowest), max(min(high, 1.0), lowest)


def highest_interval(values: np.ndarray, errors: np.ndarray) -> Interval:
    """Return the maximum over groups with its 95 % interval; see `lowest_interval`."""
    value, low, high = lowest_interval(1 - values, errors)
    return 1 - value, 1 - high, 1 - low


def _largest_ratio(deviations: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return max_g of deviations (R, G) over errors (G,), 0 where nothing varies; groups that a sample has not do not count."""
    varies = errors > 0
    if not varies.any():
        return np.zeros(len(deviations))
    largest: np.ndarray = np.fmax.reduce(deviations[:, varies] / errors[varies], axis=1)
    return np.nan_to_num(largest)


def spread_interval(values: np.ndarray) -> Interval:
    """Return a statistic that grows with the spread of groups, with a cautious 95 % interval, given samples (R + 1,).

    Spread is biased upwards, and under resampling once more. The interval reaches from the lower end of the basic bootstrap,
    which takes the bias off twice, at least 0, to the upper percentile.
    """
    estimate, drawn = float(values[0]), values[1:]
    low, high = (float(end) for end in np.nanquantile(drawn, [0.025, 0.975]))
    return estimate, max(min(low, 2 * estimate - high, estimate), 0.0), max(high, estimate)


def difference_interval(second: Interval, first: Interval) -> Interval:
    """Return the second less the first of two independent estimates, with the interval that follows from theirs.

    Squared distances of the ends add up (MOVER, Zou and Donner 2008), which leaves intervals lopsided that are.
    """
    value = second[0] - first[0]
    low = value - float(np.hypot(second[0] - second[1], first[2] - first[0]))
    high = value + float(np.hypot(second[2] - second[0], first[0] - first[1]))
    return value, low, high
