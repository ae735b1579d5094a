"""What is measured of every model alike: images, classes, parts, groups, and who is large enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ops.errors import AmalgamError
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.counting import Counts, Targets, count_groups, make_targets
from ops.evaluate.fairness.groups import Axis, Part, everyone, make_axis, make_parts, read_images
from ops.evaluate.fairness.part import Setting
from ops.evaluate.probabilities import splits_with_probabilities
from ops.files import read_json
from ops.runtime import derive_seed


@dataclass(frozen=True)
class Plan:
    """What is measured of every model alike."""

    config: FairnessConfig
    dataset: str
    classes: list[str]
    images: pd.DataFrame
    """`split, id` of every evaluated image, N rows."""
    labels: np.ndarray
    """(N,) int64: the class of every evaluated image."""
    targets: Targets
    splits: list[Part]
    """The evaluated splits one by one."""
    pooled: list[Part]
    """IN, and OUT if there is anything out of distribution."""
    axes: list[Axis]
    """That of all images, of the attributes, of the intersections."""
    counts: Mapping[tuple[str, str], Counts]
    """By pooled part and axis."""

    def by_attribute(self) -> list[Axis]:
        """Return the axes of single attributes."""
        return [axis for axis in self.axes if axis.name in self.config.attributes]

    def setting(self, part: Part, axis: Axis) -> Setting:
        """Return the groups to measure, with the seeds of their bootstrap samples.

        Seeds are the same for all models: what differs between models is not the luck of the draw.
        """
        counts = self.counts[part.name, axis.name]
        groups = [axis.values[group] for group in counts.groups]
        seeds = [derive_seed(self.config.seed, "fairness", part.name, axis.name, group) for group in groups]
        return Setting(axis, counts, self.targets, seeds, self.config.replicates)

    def size(self, part: str, axis: str) -> int:
        """Return how many images the compared groups have."""
        return int(self.counts[part, axis].images.sum())


def make_plan(config: FairnessConfig, robustness: Path, real: Path) -> Plan:
    """Return what is to be measured; raises AmalgamError for settings that do not fit what was evaluated."""
    dataset = read_json(real / "dataset.json")
    classes = [str(name) for name in dataset["classes"]]
    columns = list(dict.fromkeys(column for axis in config.axes().values() for column in axis))
    images = read_images(robustness, columns)
    axes = [everyone(images), *(make_axis(name, made_of, images) for name, made_of in config.axes().items())]
    splits, pooled = make_parts(config, images)
    targets = make_targets(classes, config.positive, config.high_risk)
    labels = pd.Categorical(images["label"], classes).codes.astype(np.int64)
    point = config.operating_point
    if point and point.split not in (known := splits_with_probabilities(robustness)):
        raise AmalgamError(
            f"fairness.operating_point.split is {point.split!r}, which was not evaluated",
            f"make it robustness.temperature_split, or use one of: {', '.join(known)}",
        )
    counts = {
        (part.name, axis.name): count_groups(axis, part, labels, targets, config.min_count)
        for part in pooled
        for axis in axes
    }
    return Plan(
        config, str(dataset["name"]), classes, images[["split", "id"]], labels, targets, splits, pooled, axes, counts
    )
