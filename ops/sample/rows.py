"""The rows of a plan: each is modelled on a training image, found in one pass over the manifest.

Systematic sampling: the rows of a cell are equally spaced points on the cumulated weights of the images that they may be
modelled on, so that each image is used as often as its weight says, give or take one. Points and manifest are walked
through side by side; neither is in memory as a whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats.qmc import Halton

from ops.data.captions import phrase, templates_of
from ops.files import replacing
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.sample.cells import Grid, JointTable
from ops.sample.config import Rest
from ops.sample.mixing import CHUNK, KEY, key_sequence, write_mixed
from ops.sample.schema import GENERATE, OVERSAMPLE, PLAN_SCHEMA, UNCONDITIONAL
from ops.sample.streaming import BATCH, DOMAIN, LABEL, codes_of, entries_of, open_manifest, read_batches

COLUMNS = ["id", "label", "domain", "attributes", "name", "concept", "weight", "split"]


@dataclass
class Line:
    """The rows of one cell, and how many of them are written."""

    cell: int
    count: int
    offset: float
    """In [0, 1): where the first point lies, in units of the space between two."""
    order: Halton
    """Keys of the rows."""
    random: np.random.Generator
    """Draws the phrasing of captions."""
    written: int = 0

    def take(self, edges: np.ndarray, total: float, last: bool, limit: int) -> np.ndarray:
        """Return which images the next rows are modelled on (m,), of those whose cumulated weights are `edges` (n,).

        None are left when all points on these images are written; there are at most `limit` at a time. `total` is the weight
        of all images; `last` says that none follows these, whatever rounding did to the sums.
        """
        ahead = np.arange(self.written, min(self.count, self.written + limit))
        points = (ahead + self.offset) / self.count * total
        mine = len(points) if last else int(np.searchsorted(points, edges[-1]))
        self.written += mine
        return np.searchsorted(edges, points[:mine], side="right").clip(max=len(edges) - 1)


@dataclass
class Pool:
    """Images that rows may be modelled on: those of a cell, or of a class."""

    images: int
    total: float
    """Their weight."""
    lines: list[Line]
    passed: int = 0
    weight: float = 0.0
    """Of those that have passed."""


@dataclass(frozen=True)
class Block:
    """Rows (m,) of some cells."""

    images: np.ndarray
    """Their training images: rows of a batch."""
    cells: np.ndarray
    keys: np.ndarray
    phrasing: np.ndarray
    """In [0, 1)."""


def write_rows(
    cells: pd.DataFrame,
    table: JointTable,
    rest: Rest,
    shards: Path,
    dataset: Mapping[str, Any],
    out: Path,
    seed: int,
    monitor: Monitor,
    *,
    batch: int = BATCH,
    chunk: int = CHUNK,
) -> None:
    """Write the rows of `cells` (columns place, planned, kind and method) as the Parquet file `out`, mixed.

    A row has the values of its cell; all else is that of its training image: of any image of its class where `rest` is
    `class` or nobody has seen the cell, else of one of the cell. Where the method is oversample, the row is that of an image
    of the cell as it is, whose id is in `copy_of`.

    Memory holds about `batch` rows of the manifest and `chunk` rows of the plan; `batch` changes nothing of the result.
    """
    pools = _pools(cells, table, rest, seed)
    file = open_manifest(shards / "manifest.parquet")
    total = int(cells["planned"].sum())

    def blocks() -> Iterator[pa.Table]:
        done = 0
        for part in read_batches(file, "train", COLUMNS, batch):
            for block in _modelled(part, table.grid, pools, batch):
                yield _rows(part, block, cells, table.grid, dataset)
                done += len(block.images)
                monitor.progress(done, total, "row")

    write_mixed(blocks(), PLAN_SCHEMA, out, total, chunk)


def write_null_rows(count: int, dataset: Mapping[str, Any], out: Path, monitor: Monitor, *, chunk: int = CHUNK) -> None:
    """Write `count` rows that ask for nothing as the Parquet file `out`; memory holds `chunk` of them.

    Label, domain and every attribute are null and the caption is empty, which is the generator's null in all its conditions.
    """
    told = {
        **{name: None for name in ("label", "domain", "concept", "copy_of")},
        **{"name": "", "caption": "", "cell": 0, "kind": UNCONDITIONAL, "method": GENERATE},
        "attributes": [(name, None) for name in sorted(dataset["attributes"])],
    }
    with replacing(out) as temporary, pq.ParquetWriter(temporary, PLAN_SCHEMA, compression="zstd") as writer:
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            columns = {
                field.name: pa.array(np.arange(start, start + size))
                if field.name == "index"
                else pa.repeat(pa.scalar(told[field.name], field.type), size)
                for field in PLAN_SCHEMA
            }
            writer.write_table(pa.table(columns, PLAN_SCHEMA))
            monitor.progress(start + size, count, "row")


def _pools(cells: pd.DataFrame, table: JointTable, rest: Rest, seed: int) -> dict[tuple[str, int], Pool]:
    """Return the images that the rows of each cell may be modelled on, as ("cell", place) or ("class", class)."""
    images, weights = (part.reshape(len(table.images), -1) for part in (table.images, table.weights))
    pools: dict[tuple[str, int], Pool] = {}
    for cell, place, planned, method in cells[["place", "planned", "method"]].itertuples():
        if not planned:
            continue
        label, inside = divmod(place, images.shape[1])
        own = images[label, inside] > 0 and (rest == "cell" or method == OVERSAMPLE)
        key = ("cell", place) if own else ("class", label)
        which = (label, inside) if own else (label, slice(None))
        pool = pools.setdefault(key, Pool(int(images[which].sum()), float(weights[which].sum()), []))
        random = np.random.default_rng(derive_seed(seed, "rows", table.grid.title(place)))
        pool.lines.append(Line(cell, planned, random.random(), key_sequence(random), random))
    return pools


def _modelled(part: pa.RecordBatch, grid: Grid, pools: Mapping[tuple[str, int], Pool], limit: int) -> Iterator[Block]:
    """Yield all rows that are modelled on the images of `part`, in blocks of `limit` up to twice as many."""
    codes = [codes_of(part, factor, values) for factor, values in zip(grid.factors, grid.values, strict=True)]
    weight = part.column("weight").to_numpy(zero_copy_only=False).astype(np.float64)
    drawn = np.flatnonzero(weight > 0)
    places = np.ravel_multi_index(tuple(code[drawn] for code in codes), grid.shape)
    waiting: list[Block] = []
    length = 0
    for kind, of in (("cell", places), ("class", codes[0][drawn])):
        for key, members in _groups(of, drawn):
            if (kind, key) not in pools:
                continue
            pool = pools[kind, key]
            edges = np.cumsum(np.append(pool.weight, weight[members]))[1:]  # in order: batches change no sum
            pool.weight, pool.passed = float(edges[-1]), pool.passed + len(members)
            for line in pool.lines:
                for block in _lined_up(line, members, edges, pool, limit):
                    waiting.append(block)
                    length += len(block.images)
                    if length >= limit:
                        yield _joined(waiting)
                        waiting, length = [], 0
    if waiting:
        yield _joined(waiting)


def _lined_up(line: Line, members: np.ndarray, edges: np.ndarray, pool: Pool, limit: int) -> Iterator[Block]:
    """Yield the rows of one cell that are modelled on the images `members` (n,), at most `limit` at a time."""
    last = pool.passed == pool.images
    while len(found := line.take(edges, pool.total, last, limit)):
        count = len(found)
        keys = line.order.random(count)[:, 0]
        yield Block(members[found], np.full(count, line.cell), keys, line.random.random(count))


def _groups(of: np.ndarray, members: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each value in `of` (n,) with the `members` (n,) that have it, in their order."""
    if not len(of):
        return
    order = np.argsort(of, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(of[order])) + 1):
        yield int(of[mine[0]]), members[mine]


def _joined(blocks: list[Block]) -> Block:
    return Block(
        *(
            np.concatenate(parts)
            for parts in zip(*((b.images, b.cells, b.keys, b.phrasing) for b in blocks), strict=True)
        )
    )


def _rows(part: pa.RecordBatch, block: Block, cells: pd.DataFrame, grid: Grid, dataset: Mapping[str, Any]) -> pa.Table:
    """Return the rows of a block as a table with the columns of a plan, `key` instead of `index`."""
    models = part.take(pa.array(block.images))
    mine = cells.iloc[block.cells]
    codes = np.unravel_index(mine["place"].to_numpy(), grid.shape)
    factors: dict[str, pa.Array] = {DOMAIN: models.column("domain")}
    for name in dataset["attributes"]:
        factors[name] = entries_of(models.column("attributes"), name)[1]
    for factor, values, code in zip(grid.factors, grid.values, codes, strict=True):
        factors[factor] = pa.array(values, pa.string()).take(pa.array(code))
    attributes = {name: factors[name] for name in sorted(dataset["attributes"])}
    phrasing = (block.phrasing * len(templates_of(dataset))).astype(np.int64)
    copied = pa.array((mine["method"] == OVERSAMPLE).to_numpy())
    return pa.table(
        {
            "label": factors[LABEL],
            "domain": factors[DOMAIN],
            "attributes": _mapping(attributes, len(block.images)),
            "name": models.column("name"),
            "concept": models.column("concept"),
            "caption": _captions(models.column("name"), factors[LABEL], factors[DOMAIN], attributes, phrasing, dataset),
            "cell": pa.array(block.cells, pa.int32()),
            "kind": pa.array(mine["kind"], pa.string()),
            "method": pa.array(mine["method"], pa.string()),
            "copy_of": pc.if_else(copied, models.column("id"), pa.scalar(None, pa.string())),
            KEY: pa.array(block.keys),
        }
    )


def _mapping(columns: Mapping[str, pa.Array], count: int) -> pa.MapArray:
    """Return columns (count,) by name as one column of maps."""
    by_column = np.arange(count * len(columns)).reshape(len(columns), count)
    items = pa.concat_arrays([pa.array([], pa.string()), *columns.values()]).take(pa.array(by_column.T.ravel()))
    offsets = pa.array(np.arange(count + 1) * len(columns), pa.int32())
    return pa.MapArray.from_arrays(offsets, pa.array(list(columns) * count, pa.string()), items)


def _captions(
    names: pa.Array,
    labels: pa.Array,
    domains: pa.Array,
    attributes: Mapping[str, pa.Array],
    phrasing: np.ndarray,
    dataset: Mapping[str, Any],
) -> pa.Array:
    """Return a caption for each row; those that are alike are made once."""
    columns = {
        "name": names,
        "label": labels,
        "domain": domains,
        **{f"attribute:{n}": v for n, v in attributes.items()},
    }
    told = pd.DataFrame({name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()})
    told["phrasing"] = phrasing
    number = told.groupby(list(told.columns), sort=False, dropna=False).ngroup().to_numpy()
    distinct = told.drop_duplicates()
    templates = templates_of(dataset)
    made = [
        phrase(templates[how], name, label, domain, dict(zip(attributes, values, strict=True)), dataset)
        for name, label, domain, *values, how in distinct.itertuples(index=False, name=None)
    ]
    return pa.array(made, pa.string()).take(pa.array(number))
