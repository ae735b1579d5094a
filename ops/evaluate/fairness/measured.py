"""From the statistics of groups to measurement rows: each group, the worst, the gap, the disparity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.evaluate.fairness.extremes import (
    gap_interval,
    highest_interval,
    lowest_interval,
    spread_interval,
    standard_errors,
)
from ops.evaluate.fairness.names import LOWER_IS_BETTER, SELECTION, axis_of, disparity, gap, worst_group
from ops.evaluate.fairness.resampling import intervals
from ops.evaluate.intervals import wilson_intervals
from ops.evaluate.measurements import row


@dataclass(frozen=True)
class Place:
    """Whose measurement it is, and on which images."""

    folder: str
    """Model and seed (`classifier/real/seed-0`)."""
    dataset: str
    split: str

    def row(self, group: str, metric: str, interval: Sequence[float], n: int) -> dict[str, Any]:
        """Return a measurement row."""
        return row(self.folder, self.dataset, self.split, group, metric, interval, n)


@dataclass(frozen=True)
class Measured:
    """One measure of G groups along an axis."""

    metric: str
    groups: list[str]
    """Names of the groups (`tone=5`), or EVERYONE alone."""
    values: np.ndarray
    """(samples, G): in the sample as it is, then in bootstrap samples."""
    counts: np.ndarray
    """(G,) int64: images that it is of."""
    share: bool
    """Whether it is a share of `counts`: then a group's interval is Wilson's."""


def group_rows(measured: Measured, place: Place) -> list[dict[str, Any]]:
    """Return a row for each group."""
    if measured.share:
        found = wilson_intervals(np.rint(measured.values[0] * measured.counts), measured.counts)
    else:
        found = intervals(measured.values)
    parts = zip(measured.groups, found.T.tolist(), measured.counts.tolist(), strict=True)
    return [place.row(group, measured.metric, each, count) for group, each, count in parts]


def aggregates(measured: Measured) -> dict[str, np.ndarray]:
    """Return the worst group's value, the gap and the disparity in each sample (samples,) by name.

    gap = max_g - min_g, the definition of the official code of Ktena et al. (2024); disparity is the standard deviation
    over groups, each counting once. Nothing for fewer than two groups. No selection rate is the worst, and the gap in that
    of positive classes is the demographic parity difference.
    """
    if len(measured.groups) < 2 or measured.metric == SELECTION:
        return {}
    low, high = np.fmin.reduce(measured.values, axis=1), np.fmax.reduce(measured.values, axis=1)
    found = {gap(measured.metric): high - low, disparity(measured.metric): np.nanstd(measured.values, axis=1)}
    if measured.metric.startswith(SELECTION):
        return found
    return {worst_group(measured.metric): high if measured.metric in LOWER_IS_BETTER else low, **found}


def aggregate_rows(measured: Measured, found: Mapping[str, np.ndarray], place: Place) -> list[dict[str, Any]]:
    """Return the rows of `aggregates`: the worst group is named, the others have the axis as their group."""
    if not found:
        return []
    errors = standard_errors(measured.values, measured.counts, measured.share)
    axis, count = axis_of(measured.groups[0]), int(measured.counts.sum())
    interval = gap_interval(measured.values, errors)
    rows = [place.row(axis, gap(measured.metric), interval, count)]
    rows.append(place.row(axis, disparity(measured.metric), spread_interval(found[disparity(measured.metric)]), count))
    if worst_group(measured.metric) in found:
        highest = measured.metric in LOWER_IS_BETTER
        interval = (highest_interval if highest else lowest_interval)(measured.values, errors)
        worst = (np.argmax if highest else np.argmin)(measured.values[0])
        name = worst_group(measured.metric)
        rows.insert(0, place.row(measured.groups[worst], name, interval, int(measured.counts[worst])))
    return rows


def largest_difference(values: np.ndarray) -> np.ndarray:
    """Return max - min (samples, ...) over the groups of (samples, G, ...)."""
    difference: np.ndarray = np.fmax.reduce(values, axis=1) - np.fmin.reduce(values, axis=1)
    return difference
