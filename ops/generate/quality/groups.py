"""Outcomes by group: every group's rate, the worst one, and the gap; and distances by group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ops.evaluate.fairness import extremes
from ops.evaluate.fairness.resampling import resampled_shares
from ops.evaluate.intervals import Interval, wilson
from ops.evaluate.measurements import row
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.kernel import Discrepancy
from ops.runtime import derive_seed

Row = dict[str, Any]


def gap_interval(groups: np.ndarray, outcomes: np.ndarray, replicates: int, seed: int) -> Interval:
    """Return the largest minus the smallest share of outcomes (N,) bool of the groups (N,), with its 95 % interval.

    The interval is that of `ops.evaluate.fairness.extremes`, for all groups at once: percentiles of a resampled gap would lie
    above the true one. Images are resampled within groups.
    """
    places = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(places)
    values = resampled_shares(np.bincount(places, outcomes), counts, replicates, seed)
    return extremes.gap_interval(values, extremes.standard_errors(values, counts, share=True))


def outcome_rows(
    config: QualityConfig,
    where: tuple[str, str, str],
    metric: str,
    outcomes: np.ndarray,
    values: Sequence[str] | np.ndarray,
    attribute: str,
    expected: Sequence[str],
) -> list[Row]:
    """Return one row for each group with enough images, and rows of the worst group and the gap.

    Args:
        config: how many images a group needs, and how often the gap is resampled.
        where: model, dataset and split of the rows.
        metric: what the outcomes are.
        outcomes: (N,) bool.
        values: group of each image (N,).
        attribute: what the values are values of.
        expected: the groups; without one of them there is no worst group and no gap, which would be of other groups.
    """
    model, dataset, split = where
    values = np.asarray(values)
    present = [value for value in expected if (values == value).sum() >= config.min_group]
    rows = []
    for value in present:
        mine = outcomes[values == value]
        rows.append(
            row(model, dataset, split, f"{attribute}={value}", metric, wilson(int(mine.sum()), len(mine)), len(mine))
        )
    if len(present) < 2 or len(present) < len(expected):
        return rows
    worst = min(rows, key=lambda each: each["value"])
    counted = np.isin(values, present)
    seed = derive_seed(config.seed, "gap", *where, metric)
    gap = gap_interval(values[counted], outcomes[counted], config.replicates, seed)
    overall = row(*where, "all", f"{metric} gap ({attribute})", gap, int(counted.sum()))
    return [*rows, {**worst, "metric": f"worst-group {metric}"}, overall]


def discrepancy_gap(found: Mapping[str, Discrepancy], replicates: int, seed: int) -> Interval:
    """Return the largest minus the smallest kernel distance of the groups, with its 95 % interval, as in `gap_interval`.

    Images of each group are resampled on both sides; what a resample moves a distance by is the mean of its images'
    influences, the first order of what computing it again would give, which repeated images would bias.
    """
    rng = np.random.default_rng(seed)
    values = np.tile([each.value for each in found.values()], (replicates + 1, 1))
    for place, each in enumerate(found.values()):
        for part in each.moved:
            counts = rng.multinomial(len(part), np.full(len(part), 1 / len(part)), replicates)
            values[1:, place] += counts @ part / len(part)
    errors = np.array([each.error() for each in found.values()])
    return extremes.gap_interval(values, errors, most=np.inf)
