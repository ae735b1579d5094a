"""How many training images there are of each combination of class, domain and attribute values: one pass, flat memory.

The manifest is read in batches, and only the columns that count; what is kept is one number for each cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ops.errors import AmalgamError
from ops.progress import Monitor
from ops.sample.streaming import BATCH, DOMAIN, LABEL, codes_of, open_manifest, read_batches

NAMED = 5
"""Unknown values that an error lists."""


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of some factors, the class first; a cell's place is its index in C order."""

    factors: tuple[str, ...]
    """`label`, then `domain` and names of attributes."""
    values: tuple[tuple[str, ...], ...]
    """The vocabulary of each factor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values of each factor."""
        return tuple(len(each) for each in self.values)

    def cell(self, place: int) -> dict[str, str]:
        """Return the value of each factor in the cell at `place`."""
        codes = np.unravel_index(place, self.shape)
        return {f: v[int(i)] for f, v, i in zip(self.factors, self.values, codes, strict=True)}

    def title(self, place: int) -> str:
        """Return the cell at `place` in words, such as `label=disc, tone=1`."""
        return ", ".join(f"{factor}={value}" for factor, value in self.cell(place).items())

    def locate(self, table: pd.DataFrame) -> np.ndarray:
        """Return the place (N,) int64 of rows of a manifest; -1 where a value is missing or in no vocabulary."""
        told = table.reindex(columns=[column_of(factor) for factor in self.factors])
        codes = [
            pd.Index(values).get_indexer(column.to_numpy(object))
            for values, (_, column) in zip(self.values, told.items(), strict=True)
        ]
        return _places(codes, self.shape)


@dataclass(frozen=True)
class JointTable:
    """The training split, counted: images of positive weight in each cell of a grid."""

    grid: Grid
    images: np.ndarray
    """(K, ...) int64, one axis for each factor."""
    weights: np.ndarray
    """(K, ...) float64: the sum of their weights."""
    occurring: Mapping[str, frozenset[str]]
    """The values that occur of every factor, of those that no cell is made of too."""

    @property
    def seen(self) -> np.ndarray:
        """(K, ...) bool: each factor's value occurs, if not together."""
        axes = range(self.images.ndim)
        marginals = [self.images.sum(axis=tuple(a for a in axes if a != axis), keepdims=True) > 0 for axis in axes]
        return np.logical_and.reduce(np.broadcast_arrays(*marginals))


def column_of(factor: str) -> str:
    """Return the column of a frame of manifest rows that holds `factor`."""
    return factor if factor in (LABEL, DOMAIN) else f"attribute:{factor}"


def vocabularies(dataset: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the values of every factor that `dataset.json` lists."""
    return {LABEL: dataset["classes"], DOMAIN: dataset["domains"], **dataset["attributes"]}


def grid_of(factors: Sequence[str], dataset: Mapping[str, Any]) -> Grid:
    """Return the grid of the class and `factors`; raises AmalgamError for a factor that the dataset has not."""
    known = vocabularies(dataset)
    for factor in factors:
        if not known.get(factor):
            raise AmalgamError(
                f"the dataset has no attribute {factor!r}",
                f"sampling_plan.strategy: one of {', '.join(f for f in known if f != LABEL)}",
            )
    chosen = tuple(dict.fromkeys([LABEL, *factors]))
    return Grid(chosen, tuple(tuple(known[factor]) for factor in chosen))


def count_cells(
    manifest: Path,
    dataset: Mapping[str, Any],
    grid: Grid,
    monitor: Monitor,
    *,
    split: str = "train",
    batch: int = BATCH,
) -> JointTable:
    """Count the images of each cell of `grid` in one split of a Parquet manifest.

    Memory holds `batch` rows and the grid. Images of weight 0, which nobody draws, do not count.

    Raises AmalgamError if the file is missing, if the grid has more cells than the manifest rows (a factor is free text),
    if a factor's value is missing or not in the vocabularies of `dataset`, or if a weight is negative or no number.
    """
    file = open_manifest(manifest)
    _refuse_free_text(grid, file.metadata.num_rows, manifest.parent.name)
    known = vocabularies(dataset)
    size = int(np.prod(grid.shape))
    images, weights = np.zeros(size, np.int64), np.zeros(size)
    occurring = {factor: np.zeros(len(values), bool) for factor, values in known.items()}
    faults: dict[str, _Fault] = {factor: _Fault(0, set()) for factor in known}
    done = bad_weights = 0
    columns = [LABEL, DOMAIN, "attributes", "weight", "split"]
    for part in read_batches(file, split, columns, batch):
        codes = {factor: codes_of(part, factor, values) for factor, values in known.items()}
        weight = part.column("weight").to_numpy(zero_copy_only=False).astype(np.float64)
        wrong = ~(weight >= 0) | np.isinf(weight)
        bad_weights += int(wrong.sum())
        drawn = (weight > 0) & ~wrong
        for factor, mine in codes.items():
            occurring[factor][mine[drawn & (mine >= 0)]] = True
            faults[factor].look(part, factor, mine)
        places = _places([codes[factor] for factor in grid.factors], grid.shape)
        counted = drawn & (places >= 0)
        images += np.bincount(places[counted], minlength=size)
        weights += np.bincount(places[counted], weights=weight[counted], minlength=size)
        done += part.num_rows
        monitor.progress(done, file.metadata.num_rows, "record")
    _refuse_faults(faults, bad_weights, manifest.parent.name, split)
    if not images.any():
        raise AmalgamError(
            f"{manifest.parent.name} has no image in the split {split}", "look at its manifest; make it again"
        )
    found = {f: frozenset(v for v, yes in zip(known[f], occurring[f], strict=True) if yes) for f in known}
    return JointTable(grid, images.reshape(grid.shape), weights.reshape(grid.shape), found)


def _places(codes: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Return the index in C order (N,) int64 of rows of codes; -1 where one of them is negative."""
    known = np.logical_and.reduce([each >= 0 for each in codes])
    places = np.ravel_multi_index(tuple(np.where(known, each, 0) for each in codes), tuple(shape))
    return np.where(known, places, -1)


@dataclass
class _Fault:
    """Rows without a usable value of a factor."""

    count: int
    values: set[str | None]

    def look(self, part: pa.RecordBatch, factor: str, codes: np.ndarray) -> None:
        """Count the rows of `part` whose code is -1, and remember a few of their values."""
        wrong = np.flatnonzero(codes < 0)
        self.count += len(wrong)
        for row in wrong[: NAMED + 1 - len(self.values)]:
            self.values.add(_value(part, int(row), factor))


def _value(part: pa.RecordBatch, row: int, factor: str) -> str | None:
    """Return what a row says of `factor`; None if nothing."""
    if factor in (LABEL, DOMAIN):
        told: str | None = part.column(factor)[row].as_py()
        return told
    return dict(part.column("attributes")[row].as_py() or []).get(factor)


def _refuse_free_text(grid: Grid, rows: int, folder: str) -> None:
    """Raise AmalgamError if there are more cells than rows."""
    size = int(np.prod(grid.shape, dtype=object))
    if size > rows:
        counts = ", ".join(f"{factor} {len(values)}" for factor, values in zip(grid.factors, grid.values, strict=True))
        raise AmalgamError(
            f"there are {size} cells ({counts} values), but {folder} has {rows} images",
            "is one of these free text, or a number? Put its values into a few bins, or leave it out of "
            "sampling_plan.strategy.attributes",
        )


def _refuse_faults(faults: Mapping[str, _Fault], bad_weights: int, folder: str, split: str) -> None:
    """Raise AmalgamError for the first factor with unusable values, and for unusable weights."""
    for factor, fault in faults.items():
        if fault.count:
            found = sorted("(missing)" if v is None else repr(v) for v in fault.values)
            named = ", ".join(found[:NAMED]) + (", ..." if len(found) > NAMED else "")
            raise AmalgamError(
                f"{fault.count} images of {folder} ({split}) have no {factor} that dataset.json lists: {named}",
                f"fill the column in, list the values in dataset.json, or drop {factor}",
            )
    if bad_weights:
        raise AmalgamError(
            f"{bad_weights} weights of the manifest of {folder} are negative or no number",
            "python -m pipelines run curated_manifest makes the weights anew",
        )
