"""Marked images are for publishing, never for training.

A classifier that sees the mark on generated images only can tell them from real ones by it, and takes it for a sign of
whatever was generated most; `benchmarks.watermark` shows the damage. So exports say that they are marked.
"""

from collections.abc import Mapping
from typing import Any

from ops.errors import AmalgamError

FIELD = "watermark"
"""The entry of `dataset.json` that marked folders have, and folders made from them inherit."""


def refuse_marked(dataset: Mapping[str, Any]) -> None:
    """Raise AmalgamError if `dataset`, the contents of a folder's `dataset.json`, says that its images are marked."""
    if FIELD in dataset:
        raise AmalgamError(
            f"the images of {dataset.get('name', 'this folder')} carry a watermark: a model would learn the mark",
            "train on the unmarked shards that were exported (synthetic_shards, filtered_synthetic)",
        )
