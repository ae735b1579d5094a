"""What all image sources have in common, be they diffusion models, cascades or baselines."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ops.progress import Monitor

Row = Mapping[str, Any]
"""A row of a plan: index, label, domain, attributes (a mapping), name, concept, caption (`ops.sample.schema`)."""


class Source(Protocol):
    """Anything that makes images from rows of a plan."""

    @property
    def name(self) -> str:
        """A word for people: `diffusion`, `gaussian`, ..."""

    @property
    def identity(self) -> str:
        """SHA-256 of what it was made from: weights, or data and settings."""

    @property
    def sampler(self) -> dict[str, Any]:
        """What the provenance of an image says of how it was sampled; JSON."""

    @property
    def seed(self) -> int:
        """The seed that, with a row's index, decides its image."""

    def draw(self, rows: Sequence[Row], monitor: Monitor) -> np.ndarray:
        """Return one image for each row, (N, H, W, 3) uint8.

        Image i follows from `seed`, `rows[i]["index"]` and the row alone, whatever else is drawn with it. Raises
        AmalgamError for a row with a value that the source does not know.
        """
