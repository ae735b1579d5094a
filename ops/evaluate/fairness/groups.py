"""Which images were evaluated, and which groups they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.names import BY_DOMAIN, EVERYONE, IN, OUT
from ops.evaluate.measurements import NO_THREAT

UNLABELLED = -1


@dataclass(frozen=True)
class Part:
    """Images that are measured together."""

    name: str
    """A split, or IN or OUT."""
    places: np.ndarray
    """(n,) int64: which of the evaluated images they are."""


@dataclass(frozen=True)
class Axis:
    """The groups that one or several attributes make of N images."""

    name: str
    values: list[str]
    """The groups: `5`, or `5+woman` of several attributes; in their order."""
    places: np.ndarray
    """(N,) int64: the group of each image, UNLABELLED where an attribute is missing."""


def read_grouped(robustness: Path, attribute: str) -> pd.DataFrame:
    """Return the outcomes in `robustness` with the group of each image in column `group`, None where it is not known.

    Raises AmalgamError if the attribute is unknown.
    """
    columns = ["model", "seed", "split", "threat", "id", "robust"]
    path, where = robustness / "predictions.parquet", [BY_DOMAIN] if attribute == BY_DOMAIN else ["attributes"]
    table = pq.read_table(path, columns=[*columns, *where])
    return table.select(columns).to_pandas().assign(group=column_of(table, attribute))


def read_images(robustness: Path, attributes: Sequence[str]) -> pd.DataFrame:
    """Return `split, id, label` of every image that was evaluated, in the order in which the first model met them.

    For each of `attributes` there is a column `by <attribute>`, None where it is not known.

    Raises AmalgamError if an attribute is unknown.
    """
    path = robustness / "predictions.parquet"
    models = pq.read_table(path, columns=["model", "seed"], filters=[("threat", "==", NO_THREAT)])
    model, seed = (models[name][0].as_py() for name in ("model", "seed"))
    first = [("threat", "==", NO_THREAT), ("model", "==", model), ("seed", "==", seed)]
    columns = ["split", "id", "label", *([BY_DOMAIN] if BY_DOMAIN in attributes else [])]
    if set(attributes) - {BY_DOMAIN}:
        columns.append("attributes")
    table = pq.read_table(path, columns=columns, filters=first)
    images = table.select(["split", "id", "label"]).to_pandas()
    return images.assign(**{f"by {name}": column_of(table, name) for name in attributes})


def column_of(table: pa.Table, attribute: str) -> np.ndarray:
    """Return an attribute or the domain of each row (N,), None where it is missing or empty; AmalgamError if unknown."""
    if attribute == BY_DOMAIN:
        values = table[BY_DOMAIN]
    else:
        kind = table.schema.field("attributes").type
        known = sorted(field.name for field in kind) if pa.types.is_struct(kind) else []
        if attribute not in known:
            raise AmalgamError(
                f"images have no attribute {attribute!r}",
                f"set fairness.attributes (or claims.attribute) to one of: {', '.join([BY_DOMAIN, *known])}",
            )
        values = pc.struct_field(table["attributes"], attribute)
    found: np.ndarray = values.to_pandas().to_numpy(object, copy=True)
    found[pd.isna(found) | (found == "")] = None
    return found


def make_axis(name: str, columns: Sequence[str], images: pd.DataFrame) -> Axis:
    """Return the groups that `columns` make of the images of `read_images`.

    Raises AmalgamError if no image has all of them.
    """
    values = images[[f"by {column}" for column in columns]]
    known = values.notna().all(axis=1).to_numpy()
    if not known.any():
        raise AmalgamError(
            f"no evaluated image has a value of {' and '.join(columns)}", "take it out of fairness, or label the images"
        )
    texts = values[known].astype(str).agg("+".join, axis=1).to_numpy(object)
    names, numbers = np.unique(texts, return_inverse=True)
    places = np.full(len(images), UNLABELLED)
    places[known] = numbers
    return Axis(name, list(names), places)


def everyone(images: pd.DataFrame) -> Axis:
    """Return the axis along which all images are one group."""
    return Axis(EVERYONE, [EVERYONE], np.zeros(len(images), np.int64))


def make_parts(config: FairnessConfig, images: pd.DataFrame) -> tuple[list[Part], list[Part]]:
    """Return the evaluated splits one by one, and the images in and out of distribution.

    Raises AmalgamError for splits that were not evaluated, and where all images in distribution are of one class.
    """
    splits = images["split"].to_numpy(object)
    known = list(dict.fromkeys(splits))
    wanted: Mapping[str, list[str]] = {IN: config.in_distribution, OUT: config.out_of_distribution}
    missing = [split for names in wanted.values() for split in names if split not in known]
    if missing:
        raise AmalgamError(
            f"fairness is to be measured on {', '.join(missing)}, which was not evaluated",
            f"add it to robustness.splits, or use some of: {', '.join(known)}",
        )
    pooled = [Part(name, np.flatnonzero(np.isin(splits, names))) for name, names in wanted.items() if names]
    classes = set(images["label"].to_numpy(object)[pooled[0].places])
    if len(classes) < 2:
        raise AmalgamError(
            f"all images of {', '.join(config.in_distribution)} are of one class, {next(iter(classes))!r}",
            "evaluate splits with several classes",
        )
    return [Part(split, np.flatnonzero(splits == split)) for split in known], pooled
