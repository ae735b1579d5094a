"""Who is in which split: patients are dealt out, never single images."""

import pandas as pd

from ops.data.config import UNLABELLED
from ops.data.layouts.config import ImportConfig
from ops.runtime import derive_seed

FEWEST = 3
"""Concepts of a domain and class from which on each of training, validation and test gets one at least."""


def deal(config: ImportConfig, table: pd.DataFrame) -> pd.Series:
    """Return the split of each row: its own where it has one, else that of its concept.

    Concepts are dealt out within each domain and class (the most frequent one of their images), so that every domain is in
    every split, in an order that follows from the seed and their names alone. Fewer than `FEWEST` all go to training.
    """
    waiting = table[table["split"] == ""]
    images = waiting.groupby(["concept", "domain", "label"]).size().reset_index(name="images")
    images = images.sort_values(["concept", "images", "domain", "label"], ascending=[True, False, True, True])
    concepts = images.drop_duplicates("concept", ignore_index=True)
    concepts["draw"] = [derive_seed(config.seed, "patients", name) for name in concepts["concept"]]
    groups = concepts.groupby(["domain", "label"])
    count = groups["concept"].transform("size")
    rank = groups["draw"].rank(method="first")
    test, validation = (
        (count * share).round().clip(lower=1).where(count >= FEWEST, 0)
        for share in (config.test_share, config.validation_share)
    )
    validation = validation.clip(upper=(count - test - 1).clip(lower=0))
    role = pd.Series("train", index=concepts.index)
    role = role.mask(rank <= test + validation, "validation").mask(rank <= test, "test")
    dealt = waiting["concept"].map(dict(zip(concepts["concept"], role, strict=True)))
    return table["split"].mask(table["split"] == "", dealt)


def evaluated(table: pd.DataFrame) -> pd.Series:
    """Say which unlabelled rows are of a concept that something is evaluated on."""
    free = table["split"] == UNLABELLED
    return free & table["concept"].isin(table.loc[~free & (table["split"] != "train"), "concept"])


def seen_elsewhere(table: pd.DataFrame) -> pd.Series:
    """Say which rows out of distribution are of a concept that is in another split too."""
    shifted = table["split"] == "shift"
    return shifted & table["concept"].isin(table.loc[~shifted, "concept"])
