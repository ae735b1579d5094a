"""The training images of each condition: of a class, and of a class with one value of an attribute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.generate.source import Row
from ops.runtime import derive_seed

Cell = tuple[str, str]
"""A label and an attribute value; the value is empty for all images of the class."""


@dataclass(frozen=True)
class Cells:
    """Which training images stand for which condition."""

    attribute: str
    """Empty where the class alone is the condition."""
    classes: tuple[str, ...]
    values: tuple[str, ...]
    """The attribute's vocabulary."""
    members: Mapping[Cell, np.ndarray]
    """Indices (n,) int64 of the images with a positive weight, of each cell that has enough."""
    counts: Mapping[Cell, int]
    """How many those are, of each cell that has any."""

    def of(self, row: Row) -> Cell:
        """Return the cell that stands for a row: its own, or that of its class where its own has too few images.

        Raises AmalgamError for a label or value that is unknown, and for a class without images.
        """
        label = row["label"]
        if label not in self.classes:
            raise AmalgamError(
                f"the baselines do not know the label {label!r}", f"plan with one of: {', '.join(self.classes)}"
            )
        if (label, "") not in self.members:
            raise AmalgamError(
                f"the class {label!r} has no training images",
                "add some, or leave the class out of the plan",
            )
        if not self.attribute:
            return label, ""
        value = row["attributes"].get(self.attribute)
        if value not in self.values:
            raise AmalgamError(
                f"the baselines do not know the {self.attribute} {value!r}",
                f"plan with one of: {', '.join(self.values)}",
            )
        return (label, value) if (label, value) in self.members else (label, "")

    def describe(self, cell: Cell) -> str:
        """Return the cell in words: `disc`, or `disc with tone 1`."""
        return f"{cell[0]} with {self.attribute} {cell[1]}" if cell[1] else cell[0]


def find_cells(images: ImageSet, dataset: Mapping[str, Any], attribute: str, min_images: int) -> Cells:
    """Return the cells of a training set; those of an attribute value need `min_images`, those of a class one.

    Raises AmalgamError if the attribute is unknown or if a weight is negative or no number.
    """
    if attribute and not dataset["attributes"].get(attribute):
        known = ", ".join(dataset["attributes"])
        raise AmalgamError(
            f"the dataset has no attribute {attribute!r}", f"baselines.attribute: empty or one of {known}"
        )
    weights = images.table["weight"].to_numpy(np.float64)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = images.table["id"].to_numpy()[~(np.isfinite(weights) & (weights >= 0))]
        raise AmalgamError(
            f"{len(bad)} weights of the manifest are negative or no number, the first that of {bad[0]}",
            "python -m pipelines run curated_manifest makes the weights anew",
        )
    usable = weights > 0
    labels = images.table["label"].to_numpy()
    found: dict[Cell, np.ndarray] = {(c, ""): np.flatnonzero(usable & (labels == c)) for c in images.classes}
    values = tuple(dataset["attributes"][attribute]) if attribute else ()
    if attribute:
        mine = images.table[f"attribute:{attribute}"].to_numpy()
        found |= {(c, v): np.flatnonzero(usable & (labels == c) & (mine == v)) for c in images.classes for v in values}
    counts = {cell: len(members) for cell, members in found.items() if len(members)}
    members = {cell: found[cell] for cell, n in counts.items() if n >= (min_images if cell[1] else 1)}
    return Cells(attribute, images.classes, values, members, counts)


def chosen(members: np.ndarray, limit: int, *seed: int | str) -> np.ndarray:
    """Return at most `limit` of `members` (n,), in their order; which ones follows from `seed`."""
    if len(members) <= limit:
        return members
    return np.sort(np.random.default_rng(derive_seed(*seed)).choice(members, limit, replace=False))


def refuse_single(cells: Cells, what: str) -> None:
    """Raise AmalgamError if a class has only one image, of which no `what` can be fitted."""
    for (label, value), count in cells.counts.items():
        if not value and count < 2:
            raise AmalgamError(
                f"the class {label!r} has one training image, and {what} needs two",
                "add images, or set baselines.kinds to [bootstrap]",
            )
