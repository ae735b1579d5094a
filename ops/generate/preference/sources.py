"""The generators of a study: folders of images that were made from the same plan, row by row."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ops.errors import AmalgamError
from ops.runtime import derive_seed

if TYPE_CHECKING:
    from ops.data.loading import ImageSet

VERSUS = " vs "
"""Between the two names of a pair, in votes and tables."""
PROMPT = ("key", "caption", "label", "domain", "name", "concept")
"""The columns that all sources must share, besides `attributes`."""


def open_sources(folders: Mapping[str, Path], cache: Path) -> "dict[str, ImageSet]":
    """Return the images of each generator's shard folder (split `train`) by its name, names in order.

    Raises AmalgamError where they were not made from the same plan (`prompts_of`).
    """
    from ops.data.loading import open_images

    sources = {name: open_images(folders[name], "train", cache) for name in sorted(folders)}
    prompts_of(sources)
    return sources


def prompts_of(sources: "Mapping[str, ImageSet]") -> pd.DataFrame:
    """Return what the images were made from: the manifest of the first source, whose rows all sources share.

    Raises AmalgamError for fewer than two sources, for names that cannot be told apart in a pair, for a key that is there
    twice, and for sources whose rows differ in key, caption, label, domain, name, concept or attributes.
    """
    if len(sources) < 2:
        raise AmalgamError(
            "side by side needs two generators or more", "name another folder of images of the same plan"
        )
    for name in sources:
        if not name.strip() or VERSUS in name:
            raise AmalgamError(
                f"{name!r} is no name for a generator", f"use a name without {VERSUS!r}, not an empty one"
            )
    (first, base), *others = ((name, images.table) for name, images in sources.items())
    if base["key"].duplicated().any():
        raise AmalgamError(f"{first} has two images with one key", "compare folders made by one plan, one image a row")
    for name, table in others:
        if len(table) != len(base):
            raise AmalgamError(f"{first} has {len(base)} images, {name} has {len(table)}", REMEDY)
        for column in (*PROMPT, "attributes"):
            mine, theirs = base[column].to_numpy(object), table[column].to_numpy(object)
            for row in np.flatnonzero(mine != theirs)[:1]:
                raise AmalgamError(
                    f"{first} and {name} differ in {column} at image {base['key'].iloc[row]}: {mine[row]}, {theirs[row]}",
                    REMEDY,
                )
    return base


REMEDY = "generate both from the same sampling plan, and compare them before any filter drops images"


def references_of(prompts: pd.DataFrame, real: pd.DataFrame) -> dict[str, str]:
    """Return the id of a real image of the same content for each key in `prompts` that has one.

    The same content is the same name, label, domain and attributes; the wording of the caption may differ. Among several
    images the choice depends on their ids only.
    """
    by_content: dict[tuple[object, ...], list[str]] = {}
    for identity, content in zip(real["id"], _contents(real), strict=True):
        by_content.setdefault(content, []).append(identity)
    found = {}
    for key, content in zip(prompts["key"], _contents(prompts), strict=True):
        if content in by_content:
            found[key] = min(by_content[content], key=lambda identity: derive_seed("reference", identity))
    return found


def _contents(table: pd.DataFrame) -> list[tuple[object, ...]]:
    attributes = [tuple(sorted(values.items())) for values in table["attributes"]]
    return list(zip(table["name"], table["label"], table["domain"], attributes, strict=True))
