"""What the baselines share: rows are drawn by condition, each with a random stream of its own."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ops.data.loading import ImageSet
from ops.generate.baselines.cells import Cell, Cells
from ops.generate.source import Row
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Figure

BLOCK = 2**22
"""Numbers that are drawn at a time: bounds the memory of a draw, whatever the number and size of the images."""


class Model(Protocol):
    """A density of images for each cell."""

    def sample(self, cell: Cell, random: Sequence[np.random.Generator]) -> np.ndarray:
        """Return one image for each random stream, (N, H, W, 3) uint8, each from its stream alone."""


@dataclass(frozen=True)
class Baseline:
    """A `Source` of images of a fitted model."""

    name: str
    identity: str
    sampler: dict[str, Any]
    seed: int
    cells: Cells
    model: Model
    shape: tuple[int, int, int]
    """Height, width and channels."""
    fits: list[dict[str, Figure]]
    """One line of figures for each cell."""

    def draw(self, rows: Sequence[Row], monitor: Monitor) -> np.ndarray:
        """Return one image for each row; see `Source.draw`."""
        places: dict[Cell, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(self.cells.of(row), []).append(place)
        images = np.empty((len(rows), *self.shape), np.uint8)
        size, done = max(1, BLOCK // int(np.prod(self.shape))), 0
        for cell, mine in places.items():
            for start in range(0, len(mine), size):
                part = mine[start : start + size]
                random = [np.random.default_rng(derive_seed(self.seed, self.name, rows[i]["index"])) for i in part]
                images[part] = self.model.sample(cell, random)
                done += len(part)
                monitor.progress(done, len(rows), "image")
        return images


def identity_of(name: str, settings: dict[str, Any], images: ImageSet, attribute: str) -> str:
    """Return the SHA-256 of what a baseline is made of: its settings, and the training images with what is known of them."""
    columns = ["sha256", "label", "concept", "weight", *([f"attribute:{attribute}"] if attribute else [])]
    digest = hashlib.sha256(json.dumps([name, settings, list(images.classes), columns], sort_keys=True).encode())
    digest.update(images.table[columns].to_csv(index=False).encode())
    return digest.hexdigest()


def on_grid(x: np.ndarray, bits: int) -> np.ndarray:
    """Return `x` rounded to multiples of 2^-bits.

    Sums of products of such numbers are exact in float64 while they stay below 2^53 units, so that no order of summation
    changes them: an image is the same to the bit whatever is drawn with it, and whichever library multiplies.
    """
    return np.ldexp(np.rint(np.ldexp(x, bits)), -bits)


def to_bytes(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return pixels (N, P) in grey levels, clipped to [0, 255] and rounded, as (N, H, W, 3) uint8."""
    return np.rint(x).clip(0, 255).astype(np.uint8).reshape(-1, *shape)
