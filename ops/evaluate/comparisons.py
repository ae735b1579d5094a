"""Every pair of models on the same images: which differences are more than chance."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.evaluate.comparison_config import ComparisonsConfig
from ops.evaluate.comparison_pictures import draw_forest
from ops.evaluate.measurements import NO_THREAT, UNION, read_measurements, write_measurements
from ops.evaluate.pairing import outcomes_by_image, paired, read_outcomes
from ops.evaluate.significance import bootstrap_mean, holm, mcnemar, mean_effect
from ops.files import replacing
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary

CLEAN = "clean accuracy"
LEVEL = 0.05
"""Of significance: an adjusted p-value of at most this."""

PAIR = [("model", pa.string()), ("than", pa.string()), ("split", pa.string())]
EFFECT = [
    ("effect", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("counted", pa.string()),
    ("low_images", pa.float64()),
    ("high_images", pa.float64()),
    ("p", pa.float64()),
    ("p_holm", pa.float64()),
    ("df", pa.float64()),
    ("n", pa.int64()),
    ("seeds", pa.list_(pa.int64())),
]
"""Columns of every comparison. `effect` is the measure of `model` less that of `than`, seeds averaged; `low` to `high` its
95 % interval over images and seeds (`counted` says if over images only), `p` of the same, `p_holm` adjusted for all pairs of a
family; `low_images` to `high_images` the paired bootstrap over images."""

SCHEMA = pa.schema(
    [
        *PAIR,
        ("measure", pa.string()),
        *EFFECT,
        ("gained", pa.list_(pa.int64())),
        ("lost", pa.list_(pa.int64())),
        ("p_mcnemar", pa.list_(pa.float64())),
    ]
)
"""The measure is an accuracy (see `EFFECT`). By seed: images that only `model` has right (`gained`) and only `than` (`lost`),
and McNemar's p of the two."""


def compare_models(config: ComparisonsConfig, robustness: Path, out: Path, monitor: Monitor) -> Summary:
    """Write `comparisons.parquet` (`SCHEMA`): each pair of models by split and measure, on the same images.

    Measures are clean accuracy (all images of a split) and, where it was attacked, robust accuracy under each threat and
    under the union of all. p-values are adjusted by Holm's procedure; a family is all pairs under one measure of one
    split. Nothing is run again.

    Raises AmalgamError for a reference that was not evaluated, and for models that met different images or seeds.
    """
    predictions = read_outcomes(robustness)
    pairs = model_pairs(config.reference, sorted(set(predictions["model"])))
    families = _families(predictions)
    lines: list[dict[str, Any]] = []
    for done, (split, measure, table) in enumerate(families, start=1):
        outcomes = outcomes_by_image(table)
        family = [_compare(config, outcomes, pair, split, measure) for pair in pairs]
        for line, adjusted in zip(family, holm(np.array([line["p"] for line in family])), strict=True):
            lines.append({**line, "p_holm": float(adjusted)})
        monitor.progress(done, len(families), "measure")
    with replacing(out / "comparisons.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(lines, SCHEMA), temporary, compression="zstd")
    dataset = str(read_measurements(robustness)["dataset"].iloc[0])
    write_measurements(out / "measurements.parquet", [_measurement(line, dataset) for line in lines])
    shown = headline(pd.DataFrame(lines, columns=SCHEMA.names))
    if len(shown):
        draw_forest(shown.assign(significant=shown["p_holm"] <= LEVEL), out / "pictures" / "comparisons.png")
    return _summary(lines, shown)


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of clean accuracy, and of robust accuracy under the union of threats or the only one."""
    united = table["split"].isin(set(table.loc[table["measure"] == UNION, "split"]))
    return table[~(united & ~table["measure"].isin([CLEAN, UNION]))]


def model_pairs(
    reference: str | None, models: Sequence[str], setting: str = "comparisons.reference"
) -> list[tuple[str, str]]:
    """Return who is compared with whom: all with the reference, or every pair; effects are of the first over the second.

    Raises AmalgamError for a reference, named by `setting`, that is not among `models`.
    """
    if reference is None:
        return list(combinations(models, 2))
    if reference not in models:
        raise AmalgamError(
            f"{setting} is {reference!r}, which was not evaluated",
            f"use one of: {', '.join(models)}",
        )
    return [(model, reference) for model in models if model != reference]


def _families(predictions: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return split, measure, and the rows of predictions that it is made from."""
    families = []
    for split, mine in predictions.groupby("split", sort=False):
        threats = [threat for threat in dict.fromkeys(mine["threat"]) if threat != NO_THREAT]
        measures = {CLEAN: [NO_THREAT]} | {f"robust accuracy ({threat})": [threat] for threat in threats}
        if len(threats) > 1:
            measures[UNION] = threats
        families += [(str(split), measure, mine[mine["threat"].isin(met)]) for measure, met in measures.items()]
    return families


def _compare(
    config: ComparisonsConfig, outcomes: dict[str, pd.DataFrame], pair: tuple[str, str], split: str, measure: str
) -> dict[str, Any]:
    """Return a line of `SCHEMA`, but the adjusted p-value."""
    values, seeds = paired(outcomes, *pair)
    differences = values[:, 0] - values[:, 1]  # (images, seeds), -1, 0 or 1
    found = mean_effect(differences)
    # the same resampled images for all pairs, so that their intervals do not differ by luck
    seed = derive_seed(config.seed, "comparisons", split, measure)
    _, low_images, high_images = bootstrap_mean(differences, config.replicates, seed)
    gained, lost = (differences > 0).sum(axis=0), (differences < 0).sum(axis=0)
    return {
        "model": pair[0],
        "than": pair[1],
        "split": split,
        "measure": measure,
        "effect": found.effect,
        "low": max(found.low, -1.0),  # accuracies differ by no more than 1
        "high": min(found.high, 1.0),
        "counted": found.counted,
        "low_images": low_images,
        "high_images": high_images,
        "p": found.p,
        "df": found.df,
        "n": len(values),
        "seeds": seeds,
        "gained": gained.tolist(),
        "lost": lost.tolist(),
        "p_mcnemar": mcnemar(gained, lost).tolist(),
    }


def _measurement(line: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Return the measurement row of a comparison; `seed` is -1, as it is of all seeds."""
    same = {name: line[name] for name in ("model", "split", "low", "high", "n")}
    metric = f"difference in {line['measure']} from {line['than']}"
    return {**same, "dataset": dataset, "group": "all", "metric": metric, "value": line["effect"], "seed": -1}


def _summary(lines: Sequence[Mapping[str, Any]], shown: pd.DataFrame) -> Summary:
    tables: dict[str, list[dict[str, Any]]] = {}
    for line in shown.to_dict("records"):
        tables.setdefault(f"{line['split']}, {line['measure']}", []).append(
            {
                "model": line["model"],
                "than": line["than"],
                "effect": f"{line['effect']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]",
                "p (Holm)": f"{line['p_holm']:.3f}",
            }
        )
    real = sum(line["p_holm"] <= LEVEL for line in lines)
    return Summary({"comparisons": len(lines), "significant after Holm": real}, tables)
