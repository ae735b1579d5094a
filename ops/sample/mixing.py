"""The order of a plan: any prefix resembles the whole, in its cells and in the images that rows are modelled on.

Rows get a key in [0, 1) and are sorted by it. The keys of a cell are van der Corput's sequence: of n rows, t n have a key below
t, give or take some log n, and these come from all over the cell.
"""

import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats.qmc import Halton

from ops.files import replacing

CHUNK = 2**18
"""Rows that are sorted in memory at a time, as long as there are no more than PARTS chunks."""
PARTS = 256
"""Most files that are open at a time."""
KEY = "key"


def key_sequence(random: np.random.Generator) -> Halton:
    """Return the keys of a cell's rows, in the order in which the rows come; each cell has its own, by `random`."""
    return Halton(1, scramble=True, rng=random)


def write_mixed(blocks: Iterable[pa.Table], schema: pa.Schema, out: Path, total: int, chunk: int = CHUNK) -> None:
    """Write the rows of `blocks`, which come in any order, to the Parquet file `out`, sorted by their column `key`.

    `blocks` have the columns of `schema` but for `index`, which becomes the row's place, and `key`. Rows are first put into
    files of about `chunk` each by their key, beside `out`; then one of these after the other is sorted in memory.
    """
    columns = pa.schema([*(field for field in schema if field.name != "index"), (KEY, pa.float64())])
    count = max(1, min(PARTS, math.ceil(total / chunk)))
    with TemporaryDirectory(dir=out.parent, prefix=".mixing-") as folder:
        paths = [Path(folder) / f"{number}.arrow" for number in range(count)]
        _scatter(blocks, columns, paths)
        index = 0
        with replacing(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for path in paths:
                part = pa.ipc.open_file(path).read_all().sort_by([(KEY, "ascending"), ("cell", "ascending")])
                path.unlink()
                numbered = part.append_column("index", pa.array(np.arange(index, index + part.num_rows)))
                writer.write_table(numbered.select(schema.names))
                index += part.num_rows


def _scatter(blocks: Iterable[pa.Table], columns: pa.Schema, paths: list[Path]) -> None:
    """Append each row of `blocks` to the file of its key."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(path, columns, options=options)) for path in paths]
        for block in blocks:
            places = np.floor(block[KEY].to_numpy() * len(paths)).astype(np.int64).clip(max=len(paths) - 1)
            order = np.argsort(places, kind="stable")
            ordered = block.select(columns.names).take(pa.array(order))
            bounds = np.searchsorted(places[order], np.arange(len(paths) + 1))
            for writer, start, stop in zip(writers, bounds, bounds[1:], strict=False):
                if stop > start:
                    writer.write_table(ordered.slice(start, stop - start))
