"""Everything that is measured of one model along one axis, on the images in or out of distribution."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ops.evaluate.calibration import BINS
from ops.evaluate.fairness.counting import Counts, Targets
from ops.evaluate.fairness.evidence import Evidence
from ops.evaluate.fairness.groups import Axis
from ops.evaluate.fairness.measured import Measured, largest_difference
from ops.evaluate.fairness.names import (
    ACCURACY,
    AUROC,
    CALIBRATION,
    EVERYONE,
    HIGH_RISK,
    ODDS,
    PARITY,
    SCALED,
    SELECTION,
    SENSITIVITY,
    SPECIFICITY,
    group_name,
    of_class,
)
from ops.evaluate.fairness.resampling import by_group
from ops.evaluate.fairness.statistics import shared_bins, target_statistics, whole_statistics

BLOCK = 32
"""Targets whose bootstrap samples are in memory at a time."""


@dataclass(frozen=True)
class Setting:
    """One axis of one part, for all models."""

    axis: Axis
    counts: Counts
    targets: Targets
    seeds: list[int]
    """Of the bootstrap samples of each compared group: the same for all models."""
    replicates: int

    def names(self, chosen: np.ndarray | None = None) -> list[str]:
        """Return the names of the compared groups, or of those that are `chosen` (G,) bool."""
        groups = self.counts.groups if chosen is None else self.counts.groups[chosen]
        values = [self.axis.values[group] for group in groups]
        return values if self.axis.name == EVERYONE else [group_name(self.axis.name, value) for value in values]


@dataclass
class Means:
    """Sums over classes of what means are made of; classes that a sample has not do not count in it."""

    groups: np.ndarray
    """(G,) bool: groups that take part."""
    targets: np.ndarray
    """(T,) bool."""
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    present: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, values: np.ndarray) -> None:
        """Add values (samples, ..., targets), nan where there is none."""
        known = ~np.isnan(values)
        self.sums[name] = self.sums.get(name, 0) + np.where(known, values, 0).sum(axis=-1)
        self.present[name] = self.present.get(name, 0) + known.sum(axis=-1)

    def mean(self, name: str) -> np.ndarray | None:
        """Return the mean over classes (samples, ...), None where there are none."""
        if name not in self.sums or not self.present[name][0].all():
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: np.ndarray = self.sums[name] / self.present[name]
        return mean


@dataclass(frozen=True)
class Found:
    """What was measured along an axis of a part."""

    measures: list[Measured]
    by_class: list[Measured]
    """Each class against the rest; empty where positive classes are given."""
    differences: dict[str, np.ndarray]
    """ODDS and PARITY (samples,), where there are groups to compare."""


def measure_part(evidence: Evidence, setting: Setting) -> Found:
    """Return all measures of a model along an axis, with bootstrap samples; groups that are too small are left out."""
    counts = setting.counts
    groups = [evidence.among(members) for members in counts.members]
    if not groups:
        return Found([], [], {})
    means, by_target = Means(*counts.in_means()), list[Measured]()
    bins, whole = shared_bins(int(counts.images.min()), BINS), dict[str, np.ndarray]()
    for start in range(0, len(setting.targets.names), BLOCK):
        block = slice(start, start + BLOCK)
        values = _samples(groups, setting, block, None if whole else bins)
        whole = whole or values
        by_target += _block(values, setting, means, block)
    measures = [Measured(ACCURACY, setting.names(), whole[ACCURACY], counts.images, share=True)]
    risky = counts.risky >= counts.least
    if setting.targets.risky.any() and risky.any():
        found = whole[HIGH_RISK][:, risky]
        measures.append(Measured(HIGH_RISK, setting.names(risky), found, counts.risky[risky], share=True))
    measures += [Measured(m, setting.names(), whole[m], counts.images, share=False) for m in (CALIBRATION, SCALED)]
    differences = {name: mean for name in (ODDS, PARITY) if (mean := means.mean(name)) is not None}
    if len(setting.targets.names) == 1:
        return Found([*measures, *by_target], [], differences)
    for metric in (AUROC, SENSITIVITY, SPECIFICITY):
        if (mean := means.mean(metric)) is not None:
            sizes = counts.images[means.groups]
            measures.append(Measured(metric, setting.names(means.groups), mean, sizes, share=False))
    return Found(measures, by_target, differences)


def _samples(groups: Sequence[Evidence], setting: Setting, block: slice, bins: int | None) -> dict[str, np.ndarray]:
    """Return the statistics of some targets by group, and with `bins` those that are not of targets."""
    some, both = [evidence.about(block) for evidence in groups], setting.counts.both()[:, block]

    def statistics(group: int, weights: np.ndarray) -> dict[str, np.ndarray]:
        found = target_statistics(some[group], both[group], weights)
        return found if bins is None else found | whole_statistics(groups[group], bins, weights)

    return by_group(statistics, setting.counts.images.tolist(), setting.replicates, setting.seeds)


def _block(values: Mapping[str, np.ndarray], setting: Setting, means: Means, block: slice) -> Iterator[Measured]:
    """Yield the measures of some targets by group, and add to the means over classes."""
    counts, names = setting.counts, setting.targets.names
    both = counts.both()[:, block]
    inside = means.targets[block]
    for metric in (AUROC, SENSITIVITY, SPECIFICITY):
        if inside.any():
            means.add(metric, values[metric][:, means.groups][:, :, inside])
    if len(counts.groups) > 1:
        means.add(PARITY, largest_difference(values[SELECTION]))
    if inside.any() and means.groups.sum() > 1:
        rates = [largest_difference(values[m][:, means.groups][:, :, inside]) for m in (SENSITIVITY, SPECIFICITY)]
        means.add(ODDS, np.fmax(*rates))
    positives, negatives = counts.positives[:, block], counts.negatives[:, block]
    images = np.broadcast_to(counts.images[:, None], positives.shape)
    having: dict[str, tuple[np.ndarray, np.ndarray, bool]] = {
        AUROC: (both, images, False),
        SENSITIVITY: (positives >= counts.least, positives, True),
        SPECIFICITY: (negatives >= counts.least, negatives, True),
        SELECTION: (np.ones(positives.shape, bool), images, True),
    }
    for t, name in enumerate(names[block]):
        for metric, (enough, sizes, share) in having.items():
            chosen = enough[:, t]
            if chosen.any():
                title = metric if len(names) == 1 else of_class(metric, name)
                found = values[metric][:, chosen, t]
                yield Measured(title, setting.names(chosen), found, sizes[chosen, t], share)
