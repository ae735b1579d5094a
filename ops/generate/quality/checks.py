"""What is compared: at most so many images of every set, after a look at whether they can be compared at all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.predicting import choose
from ops.generate.quality.config import QualityConfig

REAL = "real"
"""The name under which real images are a source themselves: what they reach is the floor or ceiling of all others."""


@dataclass(frozen=True)
class Pool:
    """Images that are compared, with their features."""

    title: str
    """For people, such as `the source diffusion`."""
    images: ImageSet
    features: Mapping[str, np.ndarray]
    """(N, D) float32 by space."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def table(self) -> pd.DataFrame:
        """Manifest rows (N)."""
        return self.images.table

    def values(self, column: str) -> np.ndarray:
        """Return a column of the manifest (N,)."""
        return self.table[column].to_numpy()


@dataclass(frozen=True)
class Compared:
    """The sets of one report."""

    train: Pool
    held_out: Mapping[str, Pool]
    sources: Mapping[str, Pool]
    attribute: str
    """The attribute that groups are made of."""

    @property
    def column(self) -> str:
        """The manifest's column of that attribute."""
        return f"attribute:{self.attribute}"

    def references(self) -> dict[str, Pool]:
        """Return the real sets that sources are compared with, by split."""
        return {"train": self.train, **self.held_out}

    def against(self, split: str) -> dict[str, Pool]:
        """Return all that is compared with `split`, real images first: the first held-out ones with the training split."""
        return {REAL: next(iter(self.held_out.values())) if split == "train" else self.train, **self.sources}

    def everything(self) -> list[Pool]:
        """Return all sets."""
        return [*self.references().values(), *self.sources.values()]

    def smallest(self) -> int:
        """Return the number of images of the smallest set."""
        return min(map(len, self.everything()))

    def embedded(self, embed: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> "Compared":
        """Return the sets with the features that `embed` gives of images (N, H, W, 3) uint8."""

        def one(pool: Pool) -> Pool:
            return replace(pool, features=embed(pool.images.images))

        held_out, sources = ({k: one(pool) for k, pool in part.items()} for part in (self.held_out, self.sources))
        return Compared(one(self.train), held_out, sources, self.attribute)


def prepare(
    config: QualityConfig,
    train: ImageSet,
    held_out: Mapping[str, ImageSet],
    sources: Mapping[str, ImageSet],
    attribute: str,
) -> Compared:
    """Return at most `config.images` images of every set, always the same ones.

    Raises AmalgamError if there is nothing to compare, if sizes, classes or columns differ, if a class has no images in
    the training split or a source, if held-out images are training images, or if a set is too small for
    `config.neighbours` or a covariance.
    """
    if not sources or not held_out:
        raise AmalgamError("there is nothing to compare", "name at least one source and one held-out split")
    if REAL in sources or "train" in held_out:
        raise AmalgamError(
            "a source is called real, or a held-out split train, which are the training images",
            "give it another name",
        )
    sets = Compared(
        _pool(config, train, "train", "the real split train"),
        {split: _pool(config, images, split, f"the real split {split}") for split, images in held_out.items()},
        {name: _pool(config, images, name, f"the source {name}") for name, images in sources.items()},
        attribute,
    )
    for pool in sets.everything():
        _check(config, sets, pool)
    for pool in sets.held_out.values():
        shared = set(pool.table["sha256"]) & set(sets.train.table["sha256"])
        if shared:
            raise AmalgamError(
                f"{pool.title} has {len(shared)} images that the real split train has too",
                "generators and scorers know these; name a split that is disjoint from training",
            )
    for pool in (sets.train, *sets.sources.values()):
        missing = sorted(set(pool.images.classes) - set(pool.table["label"]))
        if missing:
            raise AmalgamError(
                f"{pool.title} has no images of {', '.join(missing)}",
                "let its plan ask for every class, or raise quality.images",
            )
    return sets


def factors_of(table: pd.DataFrame) -> list[str]:
    """Return the columns that images are conditioned on and that vary: label, domain and every attribute."""
    columns = ["label", "domain", *sorted(c for c in table.columns if c.startswith("attribute:"))]
    return [column for column in columns if table[column].nunique() > 1]


def small_groups(config: QualityConfig, sets: Compared) -> list[str]:
    """Return one sentence for each set of images with groups that have too few images for rows of their own."""
    notes = []
    for pool in sets.everything():
        small = []
        for column, factor in (("label", "class"), (sets.column, sets.attribute)):
            expected = values_of(sets.train.table[column], 1)
            missing = sorted(set(expected) - set(values_of(pool.table[column], config.min_group)))
            if missing:
                small.append(f"{factor} {', '.join(missing)}")
        if small:
            notes.append(
                f"{pool.title} has fewer than {config.min_group} images of {' and of '.join(small)}: "
                "these have no rows of their own, and it has no gap where they count"
            )
    return notes


def values_of(column: "pd.Series[Any]", least: int) -> list[str]:
    """Return the values of a column that at least so many rows have, sorted."""
    counts = column.dropna().value_counts()
    return sorted(str(value) for value in counts.index[counts >= least])


def _pool(config: QualityConfig, images: ImageSet, name: str, title: str) -> Pool:
    few = images if len(images) <= config.images else choose(images, name, config.images, config.seed)
    return Pool(title, few, {})


def _check(config: QualityConfig, sets: Compared, pool: Pool) -> None:
    name, images, train = pool.title, pool.images, sets.train.images
    if images.classes != train.classes:
        raise AmalgamError(
            f"{name} has the classes {', '.join(images.classes)}, the real images have {', '.join(train.classes)}",
            "make it again from this dataset",
        )
    if images.images.shape[1:] != train.images.shape[1:]:
        sizes = [" x ".join(map(str, part.images.shape[1:3])) for part in (images, train)]
        raise AmalgamError(
            f"images of {name} have {sizes[0]} pixels, the real ones {sizes[1]}",
            "make them again at the size of this dataset",
        )
    least = max(config.neighbours + 1, 4)
    if len(images) < least:
        raise AmalgamError(
            f"{name} has {len(images)} images; {config.neighbours} neighbours and a covariance need {least}",
            "make more images, or lower quality.neighbours",
        )
    columns = {*factors_of(train.table), sets.column}
    absent = sorted(columns - set(images.table.columns))
    if absent:
        raise AmalgamError(
            f"the manifest of {name} does not say the {', '.join(c.removeprefix('attribute:') for c in absent)} of its images",
            "write what every image was asked to be, or choose another attribute of groups",
        )
