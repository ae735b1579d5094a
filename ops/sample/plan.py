"""Fairness-conditioned sampling plans (Ktena et al. 2024): labels as in the training data, attributes uniform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.captions import caption_of
from ops.data.manifest import read_manifest
from ops.data.pictures import bars
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.sample.config import SamplingPlanConfig
from ops.summary import Summary

PLAN_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("label", pa.string()),
        ("domain", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("name", pa.string()),
        ("concept", pa.string()),
        ("caption", pa.string()),
    ]
)


def plan_samples(config: SamplingPlanConfig, shards: Path, out: Path, monitor: Monitor) -> Summary:
    """Write one row for each image to make.

    y ~ p_train(y) (or uniform), a ~ uniform (or p_train(a)), y and a independent: the correlation and the imbalance of
    the training data are not in the plan. Name, domain and the other attributes are those of a training image of class
    y, drawn by weight, so that nothing of another split is asked for.
    """
    table = read_manifest(shards)
    table = table[table["split"] == "train"].reset_index(drop=True)
    dataset = read_json(shards / "dataset.json")
    values = dataset["attributes"].get(config.attribute)
    if not values:
        known = ", ".join(dataset["attributes"])
        raise AmalgamError(
            f"the dataset has no attribute {config.attribute!r}", f"sampling_plan.attribute: one of {known}"
        )
    count = round(config.multiple * len(table))
    labels = _shares(table["label"], dataset["classes"], config.label)
    attributes = _shares(table[f"attribute:{config.attribute}"], values, config.values)
    counts = allocate(np.outer(labels, attributes).ravel(), count).reshape(len(labels), len(attributes))
    rows = [
        row
        for i, label in enumerate(dataset["classes"])
        for j, value in enumerate(values)
        for row in _cell(config, table[table["label"] == label], label, value, int(counts[i, j]), dataset)
    ]
    order = np.random.default_rng(derive_seed(config.seed, "order")).permutation(len(rows))
    rows = [{"index": number, **rows[place]} for number, place in enumerate(order)]
    with replacing(out / "plan.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, PLAN_SCHEMA), temporary, compression="zstd")
    write_json(out / "dataset.json", dataset)
    names = [dataset.get("attribute_names", {}).get(config.attribute, {}).get(v, v) for v in values]
    real = table[f"attribute:{config.attribute}"].value_counts().reindex(values, fill_value=0)
    planned = {"training split": real.tolist(), "plan": counts.sum(axis=0).tolist()}
    bars(planned, names, out / "pictures" / "plan.png", f"images by {config.attribute}", "images")
    lines: list[dict[str, Any]] = [
        {"label": label, **{str(v): int(n) for v, n in zip(names, counts[i], strict=True)}}
        for i, label in enumerate(dataset["classes"])
    ]
    monitor.note(f"{count} images planned")
    return Summary({"planned": count, "multiple": config.multiple}, {"plan": lines})


def _shares(column: pd.Series, values: Sequence[str], kind: str) -> np.ndarray:
    """Return the probability of each of `values`: as in `column`, or uniform over those that occur."""
    counts = column.value_counts().reindex(values, fill_value=0).to_numpy(np.float64)
    return counts / counts.sum() if kind == "empirical" else (counts > 0) / (counts > 0).sum()


def allocate(shares: np.ndarray, count: int) -> np.ndarray:
    """Return whole numbers (K,) that add up to `count`, each within 1 of shares * count (largest remainders).

    `shares` (K,) are non-negative and add up to 1.
    """
    exact = shares * count
    whole = np.floor(exact).astype(np.int64)
    rest = count - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole


def _cell(
    config: SamplingPlanConfig, table: pd.DataFrame, label: str, value: str, count: int, dataset: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return `count` rows of one class and attribute value, modelled on training images of that class.

    Systematic sampling: equally spaced points on the cumulated weights, so that each image is used as often as its
    weight says, give or take one.
    """
    if not count:
        return []
    seed = derive_seed(config.seed, label, value)
    rng = np.random.default_rng(seed)
    table = table.iloc[rng.permutation(len(table))]
    edges = np.cumsum(table["weight"].to_numpy(np.float64))
    points = (np.arange(count) + rng.random()) / count * edges[-1]
    rows = []
    for number, place in enumerate(np.searchsorted(edges, points).clip(max=len(table) - 1)):
        model = table.iloc[place]
        attributes = {**model["attributes"], config.attribute: value}
        caption = caption_of(model["name"], label, model["domain"], attributes, dataset, seed, number)
        rows.append(
            {
                "label": label,
                "domain": model["domain"],
                "attributes": sorted(attributes.items()),
                "name": model["name"],
                "concept": model["concept"],
                "caption": caption,
            }
        )
    return rows
