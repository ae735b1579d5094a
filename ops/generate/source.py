"""What all image sources have in common, be they diffusion models, cascades or baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import pyarrow.parquet as pq

from ops.progress import Monitor

Row = Mapping[str, Any]
"""A row of a plan: index, label, domain, attributes (a mapping), name, concept, caption."""


class PlanRows(Sequence[Row]):
    """The rows of a plan's Parquet file; as a table, in which repeated words are numbers, until they are asked for."""

    def __init__(self, path: Path) -> None:
        words = [
            name for name in ("label", "domain", "name", "concept", "caption") if name in pq.read_schema(path).names
        ]
        self._table = pq.read_table(path, read_dictionary=words)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            rows: list[Row] = self._table.slice(start, max(0, stop - start)).to_pylist(maps_as_pydicts="strict")
            return rows[::step]
        first = range(len(self))[place]
        return self[first : first + 1][0]

    @property
    def captions(self) -> list[str]:
        """The distinct captions."""
        return list(self._table["caption"].unique().to_pylist())


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
