"""What models say of every class, for evaluations that need more than the prediction: one row for each image as it is."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.evaluate.measurements import split_name
from ops.files import replacing

FILE = "probabilities.parquet"
SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("split", pa.string()),
        ("id", pa.string()),
        ("label", pa.string()),
        ("log_probabilities", pa.list_(pa.float32())),
    ]
)
"""`log_probabilities` are in the order of the classes in `dataset.json`. Logarithms keep the order of images at both ends,
where float32 probabilities would be tied at 1."""
FLOATS = "log_probabilities.list.element"


def write_probabilities(
    path: Path, name: str, split: str, ids: Sequence[str], labels: Sequence[str], log_probabilities: np.ndarray
) -> None:
    """Write what the model `name` says of the images `ids` of a split: log_probabilities (N, K), natural logarithms."""
    (model, seed), (count, classes) = split_name(name), log_probabilities.shape
    starts = pa.array(np.arange(count + 1) * classes, pa.int32())
    columns = {
        "model": pa.array([model] * count),
        "seed": pa.array(np.full(count, seed)),
        "split": pa.array([split] * count),
        "id": pa.array(ids, pa.string()),
        "label": pa.array(labels, pa.string()),
        "log_probabilities": pa.ListArray.from_arrays(starts, log_probabilities.astype(np.float32).ravel()),
    }
    _write(path, [pa.table(columns, SCHEMA)])


def join_probabilities(pieces: Sequence[Path], path: Path) -> None:
    """Write `pieces` into one file, a row group each, one after the other."""
    _write(path, (pq.read_table(piece) for piece in pieces))


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    strings = [field.name for field in SCHEMA if field.type == pa.string()]
    options = {"use_dictionary": strings, "column_encoding": {FLOATS: "BYTE_STREAM_SPLIT"}, "compression": "zstd"}
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, **options) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=len(table))


def splits_with_probabilities(robustness: Path) -> list[str]:
    """Return the splits whose probabilities are kept: those that were evaluated, and the one that sets temperatures."""
    return sorted(set(pq.read_table(_file(robustness), columns=["split"])["split"].to_pylist()))


def read_probabilities(
    robustness: Path, model: str, seed: int, split: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids (N,), labels (N,) and log-probabilities (N, K) float32 of one model on one split; only these are read.

    Raises AmalgamError where there are none.
    """
    wanted = [("model", "==", model), ("seed", "==", seed), ("split", "==", split)]
    table = pq.read_table(_file(robustness), columns=["id", "label", "log_probabilities"], filters=wanted)
    if not len(table):
        raise AmalgamError(f"there are no probabilities of {model}, seed {seed}, on {split}", "run robustness again")
    values = table["log_probabilities"].combine_chunks()
    known = values.flatten().to_numpy().reshape(len(table), -1)
    return table["id"].to_numpy(), table["label"].to_numpy(), known


def _file(robustness: Path) -> Path:
    path = robustness / FILE
    if not path.exists():
        raise AmalgamError(f"{robustness.name} has no {FILE}", "python -m pipelines run robustness")
    return path
