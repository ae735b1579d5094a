"""Images of a shard folder as an array with exact random access.

Shards are decoded once into a file that is mapped into memory: any image can be read at once, a resumed run sees the
same order, and memory use does not grow with the data.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ops.data.config import UNLABELLED
from ops.data.hashing import decode
from ops.data.manifest import read_manifest
from ops.data.shards import read_shard
from ops.errors import AmalgamError
from ops.files import read_json, replacing


@dataclass(frozen=True)
class ImageSet:
    """Images with labels and manifest rows in one order."""

    images: np.ndarray
    """(N, H, W, 3) uint8, mapped into memory."""
    labels: np.ndarray
    """(N,) int64, index into `classes`; -1 for the unlabelled images of `open_with_unlabelled`."""
    table: pd.DataFrame
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: "np.ndarray | torch.Tensor | Sequence[int]") -> torch.Tensor:
        """Return the images at `indices` as (B, 3, H, W) float32 in [0, 1]."""
        chosen = np.ascontiguousarray(self.images[np.asarray(indices)])
        return torch.from_numpy(chosen).permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def targets(self, indices: "np.ndarray | torch.Tensor | Sequence[int]") -> torch.Tensor:
        """Return the labels at `indices` as (B,) int64."""
        return torch.from_numpy(self.labels[np.asarray(indices)])

    def subset(self, indices: "np.ndarray | Sequence[int]") -> "ImageSet":
        """Return only the images at `indices` (copied; for small subsets)."""
        chosen = np.asarray(indices)
        table = self.table.iloc[chosen].reset_index(drop=True)
        return ImageSet(self.images[chosen], self.labels[chosen], table, self.classes)


def open_images(shards: Path, splits: str | Sequence[str], cache: Path) -> ImageSet:
    """Return the images of `splits` of a shard folder, decoded once into `cache`.

    Raises AmalgamError if there are none, if a label is missing or unknown, or if a shard lacks an image of the manifest.
    """
    return _open(shards, [splits] if isinstance(splits, str) else list(splits), cache, unlabelled=False)


def open_with_unlabelled(shards: Path, split: str, cache: Path) -> ImageSet:
    """Return the images of `split` followed by those of the split `unlabelled`, where there is one, for who needs no labels.

    Raises AmalgamError as `open_images` does, for the labels of `split` too.
    """
    return _open(shards, [split, UNLABELLED], cache, unlabelled=True)


def _open(shards: Path, wanted: list[str], cache: Path, *, unlabelled: bool) -> ImageSet:
    for name in ("dataset.json", "manifest.parquet"):
        if not (shards / name).exists():
            raise AmalgamError(f"{shards.name} is no folder of shards: {name} is missing", "dvc pull, or make it again")
    dataset = read_json(shards / "dataset.json")
    table = read_manifest(shards)
    table = table[table["split"].isin(wanted)].sort_values(["split", "shard", "key"]).reset_index(drop=True)
    if table.empty:
        raise AmalgamError(
            f"{shards.name} has no images in {', '.join(wanted)}", "look at its manifest; make it again if it is empty"
        )
    classes = tuple(dataset["classes"])
    missing = table["label"].isna()
    refused = int((missing & ((table["split"] != UNLABELLED) | (not unlabelled))).sum())
    if refused:
        raise AmalgamError(
            f"{refused} images of {shards.name} in {', '.join(wanted)} have no label",
            f"name no split {UNLABELLED} here; synthetic images without a condition get a label in filtered_synthetic",
        )
    unknown = sorted(set(table.loc[~missing, "label"]) - set(classes))
    if unknown:
        raise AmalgamError(
            f"{shards.name} has unknown labels: {', '.join(unknown)}", f"known are: {', '.join(classes)}"
        )
    labels = table["label"].map({name: i for i, name in enumerate(classes)}).fillna(-1).to_numpy(np.int64)
    size = int(dataset["image_size"])
    key = hashlib.sha256("\n".join([str(size), *table["sha256"]]).encode()).hexdigest()[:24]
    path = cache / "images" / f"{key}.npy"
    if not path.exists():
        _decode(shards, table, size, path)
    return ImageSet(np.load(path, mmap_mode="r"), labels, table, classes)


def _decode(shards: Path, table: pd.DataFrame, size: int, path: Path) -> None:
    """Decode the images of `table` into the array file `path`, one shard in memory at a time."""
    place = {(s, k): i for i, (s, k) in enumerate(zip(table["shard"], table["key"], strict=True))}
    with replacing(path) as temporary:
        shape = (len(table), size, size, 3)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        found = 0
        for shard in sorted(set(table["shard"])):
            for key, data in read_shard(shards / shard):
                if (shard, key) in place:
                    array[place[shard, key]] = decode(data)
                    found += 1
        if found != len(table):
            raise AmalgamError(
                f"{len(table) - found} images of the manifest of {shards.name} are not in its shards",
                "dvc checkout brings the folder back; or make it again: python -m pipelines run",
            )
        array.flush()
