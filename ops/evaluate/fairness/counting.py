"""Which groups are large enough to be measured, and what happens to the others: they are listed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ops.errors import AmalgamError
from ops.evaluate.fairness.groups import UNLABELLED, Axis, Part
from ops.evaluate.fairness.names import (
    AUROC,
    EVERYTHING,
    HIGH_RISK,
    SENSITIVITY,
    SPECIFICITY,
    group_name,
    of_class,
)

LEFT_OUT = pa.schema(
    [
        ("split", pa.string()),
        ("axis", pa.string()),
        ("group", pa.string()),
        ("metric", pa.string()),
        ("count", pa.int64()),
        ("needed", pa.int64()),
    ]
)
"""What was not measured: `count` images (or positives, negatives, the fewer of both) where `needed` are."""
MEANS = "means over classes"


@dataclass(frozen=True)
class Targets:
    """What is told from the rest: each class, or the positive ones together."""

    names: list[str]
    members: np.ndarray
    """(T, K) bool: the classes of each target."""
    risky: np.ndarray
    """(K,) bool: the high-risk classes; none if there are no such."""


@dataclass(frozen=True)
class Counts:
    """How many images the compared groups of an axis have; G of them, T targets."""

    groups: np.ndarray
    """(G,) int64: the groups, as places in `Axis.values`."""
    members: list[np.ndarray]
    """For each group the places of its images in the part."""
    images: np.ndarray
    """(G,) int64, and so on."""
    positives: np.ndarray
    """(G, T)."""
    negatives: np.ndarray
    """(G, T)."""
    risky: np.ndarray
    """(G,)."""
    least: int

    def both(self) -> np.ndarray:
        """Return of which targets a group has enough positives and negatives (G, T) bool."""
        return np.minimum(self.positives, self.negatives) >= self.least

    def in_means(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the groups (G,) bool and targets (T,) bool of means over classes.

        Groups are only comparable in means over the same classes. A class counts if every group has enough images of it and
        of others; groups that have not enough for any class do not take part.
        """
        both = self.both()
        groups = np.asarray(both.any(axis=1))
        return groups, np.asarray(both[groups].all(axis=0) & groups.any())


def make_targets(classes: Sequence[str], positive: Sequence[str] | None, high_risk: Sequence[str]) -> Targets:
    """Return the targets; raises AmalgamError for unknown classes, and where positive or high-risk classes are all."""
    for setting, names in (("positive", positive or []), ("high_risk", high_risk)):
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise AmalgamError(
                f"fairness.{setting} names the class {unknown[0]!r}, which the dataset has not",
                f"use some of: {', '.join(classes)}",
            )
        if set(names) == set(classes):
            raise AmalgamError(
                f"fairness.{setting} names every class, which leaves none to tell them from", "name fewer"
            )
    index, labels = np.eye(len(classes), dtype=bool), np.array(classes, object)
    risky = np.isin(labels, list(high_risk))
    if positive is None:
        return Targets(list(classes), index, risky)
    return Targets(["positive"], np.isin(labels, list(positive))[None], risky)


def count_groups(axis: Axis, part: Part, labels: np.ndarray, targets: Targets, least: int) -> Counts:
    """Return the groups with at least `least` images of a part, given the class of every evaluated image (N,)."""
    places, mine = axis.places[part.places], labels[part.places]
    sizes = np.bincount(places[places != UNLABELLED], minlength=len(axis.values))
    groups = np.flatnonzero(sizes >= least)
    members = [np.flatnonzero(places == group) for group in groups]
    positive, risky = targets.members.T[mine], targets.risky[mine]
    positives = np.array([positive[inside].sum(axis=0) for inside in members]).reshape(len(groups), len(targets.names))
    return Counts(
        groups=groups,
        members=members,
        images=sizes[groups],
        positives=positives,
        negatives=sizes[groups][:, None] - positives,
        risky=np.array([risky[inside].sum() for inside in members], np.int64),
        least=least,
    )


def left_out(counts: Counts, axis: Axis, part: Part, targets: Targets) -> list[dict[str, str | int]]:
    """Return lines of `LEFT_OUT` for unlabelled images, and for what is too small along an axis of a part."""
    places = axis.places[part.places]
    sizes = np.bincount(places[places != UNLABELLED], minlength=len(axis.values))
    unlabelled = int((places == UNLABELLED).sum())
    found: list[tuple[str, str, int]] = [(f"{axis.name} unlabelled", EVERYTHING, unlabelled)] if unlabelled else []
    names = [group_name(axis.name, value) for value in axis.values]
    found += [(names[g], EVERYTHING, int(sizes[g])) for g in np.flatnonzero((sizes > 0) & (sizes < counts.least))]
    both, (groups, classes) = np.minimum(counts.positives, counts.negatives), counts.in_means()
    several = len(targets.names) > 1
    for number, group in enumerate(counts.groups):
        for metric, having in ((SENSITIVITY, counts.positives), (SPECIFICITY, counts.negatives), (AUROC, both)):
            for t in np.flatnonzero(having[number] < counts.least):
                name = of_class(metric, targets.names[t]) if several else metric
                found.append((names[group], name, int(having[number, t])))
        if several and not groups[number]:
            found.append((names[group], MEANS, int(both[number].max())))
        if targets.risky.any() and counts.risky[number] < counts.least:
            found.append((names[group], HIGH_RISK, int(counts.risky[number])))
    if several and groups.any():
        fewest = both[groups].min(axis=0)
        found += [(axis.name, of_class(MEANS, targets.names[t]), int(fewest[t])) for t in np.flatnonzero(~classes)]
    line: dict[str, str | int] = {"split": part.name, "axis": axis.name, "needed": counts.least}
    return [{**line, "group": group, "metric": metric, "count": count} for group, metric, count in found]
