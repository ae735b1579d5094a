"""Manifests that are read in batches: only some columns, only one split, and factors as numbers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ops.errors import AmalgamError

BATCH = 2**16
"""Rows of the manifest in memory at a time."""
LABEL, DOMAIN = "label", "domain"


def open_manifest(path: Path) -> pq.ParquetFile:
    """Return a Parquet manifest, not read yet; raises AmalgamError if it is missing."""
    if not path.exists():
        raise AmalgamError(
            f"{path.parent.name} has no {path.name}", f"make it again: python -m pipelines run {path.parent.name}"
        )
    return pq.ParquetFile(path)


def read_batches(
    file: pq.ParquetFile, split: str, columns: Sequence[str], batch: int = BATCH
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one split in their order, at most `batch` at a time; row groups without any are not read.

    `columns` must hold `split`.
    """
    place = next(i for i in range(file.metadata.num_columns) if file.metadata.schema.column(i).path == "split")
    groups = []
    for number in range(file.metadata.num_row_groups):
        known = file.metadata.row_group(number).column(place).statistics
        if known is None or not known.has_min_max or known.min <= split <= known.max:
            groups.append(number)
    if not groups:
        return
    for part in file.iter_batches(batch, row_groups=groups, columns=list(columns)):
        mine = part.filter(pc.equal(part.column("split"), split))
        if mine.num_rows:
            yield mine


def codes_of(part: pa.RecordBatch, factor: str, values: Sequence[str]) -> np.ndarray:
    """Return the place (N,) int64 of each row's value of `factor` in `values`; -1 where it is missing or not there."""
    if factor in (LABEL, DOMAIN):
        return _index_in(part.column(factor), values)
    codes = np.full(part.num_rows, -1, np.int64)
    rows, items = entries_of(part.column("attributes"), factor)
    codes[rows] = _index_in(items, values)
    return codes


def entries_of(attributes: pa.MapArray, name: str) -> tuple[np.ndarray, pa.Array]:
    """Return which rows (M,) have the attribute `name`, and their values (M,); no row has a key twice."""
    offsets = attributes.offsets.to_numpy()
    first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    mine = np.flatnonzero(pc.equal(attributes.keys.slice(first, length), name).to_numpy(zero_copy_only=False))
    rows = np.searchsorted(offsets, first + mine, side="right") - 1
    return rows, attributes.items.slice(first, length).take(pa.array(mine))


def _index_in(column: pa.Array, values: Sequence[str]) -> np.ndarray:
    found = pc.index_in(column, value_set=pa.array(values, pa.string()))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
