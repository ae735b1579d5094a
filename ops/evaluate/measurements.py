"""Measurement rows: the one form of every number that is reported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.files import replacing

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("seed", pa.int64()),
    ]
)
"""`group` is "all" or "attribute=value", or the attribute of what is told of its groups together; `low` and `high` are the
ends of the 95 % interval; `seed` is the model's."""

NO_SEED = -1
"""The seed of models that were not trained here, such as `external/carmon`."""

NO_THREAT = "none"
"""The threat of outcomes on unperturbed images: these are all images of a split, while attacks meet a sample."""

UNION = "robust accuracy (union of threats)"
"""The metric that counts images which survive every attack under every threat."""


def row(
    model: str, dataset: str, split: str, group: str, metric: str, interval: Sequence[float], n: int
) -> dict[str, Any]:
    """Return one row; model names end in their partition (`classifier/real/seed-0`)."""
    value, low, high = interval
    name, seed = split_name(model)
    parts = {"model": name, "dataset": dataset, "split": split, "group": group, "metric": metric}
    return {**parts, "value": value, "low": low, "high": high, "n": n, "seed": seed}


def split_name(model: str) -> tuple[str, int]:
    """Return name and seed of a model folder's name: `classifier/real/seed-0` is (`classifier/real`, 0).

    A name without a seed (`external/carmon`) has NO_SEED.
    """
    name, _, partition = model.rpartition("/seed-")
    return (name, int(partition)) if name else (model, NO_SEED)


def title(model: str, seed: int) -> str:
    """Return a model's name for people: `classifier/real, seed 0`, or the name alone where there is no seed."""
    return model if seed == NO_SEED else f"{model}, seed {seed}"


def write_measurements(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema = SCHEMA) -> None:
    """Write rows as Parquet with the columns of `schema`.

    Raises ValueError if a value is no number or outside its own interval.
    """
    for each in rows:
        if not each["low"] - 1e-9 <= each["value"] <= each["high"] + 1e-9:
            raise ValueError(f"a measurement is not inside its interval: {each}")
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema), temporary, compression="zstd")


def read_measurements(folder: Path) -> pd.DataFrame:
    """Return the measurement rows of an artefact; raises AmalgamError where there are none."""
    path = folder / "measurements.parquet"
    if not path.exists():
        raise AmalgamError(f"{folder.name} has no measurements.parquet", f"python -m pipelines run {folder.name}")
    return pq.read_table(path).to_pandas()
