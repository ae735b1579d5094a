"""The rows of a plan, read from its file as they are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ops.sample.schema import OVERSAMPLE

Row = dict[str, Any]


class PlanRows(Sequence[Row]):
    """The rows of a plan or of prompts (Parquet); memory holds one row group.

    A group is decoded once as long as rows are asked for in order, which is how shards ask. Copies in other processes open
    the file themselves.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata = pq.read_metadata(path)
        self.starts = [0]
        """Where each row group begins, and the end of the last."""
        for group in range(metadata.num_row_groups):
            self.starts.append(self.starts[-1] + metadata.row_group(group).num_rows)
        self._group: tuple[int, pa.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def __len__(self) -> int:
        return self.starts[-1]

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return a row, or those of a slice with step 1."""
        if isinstance(place, int):
            return self[place : place + 1][0] if place != -1 else self[place:][0]
        start, stop, step = place.indices(len(self))
        assert step == 1, "rows are read in order"
        rows: list[Row] = []
        for group, (first, end) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            if first < stop and end > start:
                offset = max(start, first) - first
                part = self._table(group).slice(offset, min(stop, end) - first - offset)
                rows += part.to_pylist(maps_as_pydicts="strict")
        return rows

    def _table(self, group: int) -> pa.Table:
        if self._group is None or self._group[0] != group:
            self._group = group, pq.ParquetFile(self.path).read_row_group(group)
        return self._group[1]


def count_copies(path: Path) -> int:
    """Return how many rows of the plan `path` repeat a training image; the file is read in batches."""
    plan = ds.dataset(path, format="parquet")
    if "method" not in plan.schema.names:
        return 0
    return int(plan.count_rows(filter=ds.field("method") == OVERSAMPLE))
