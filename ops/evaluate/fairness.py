"""Accuracy by group, the worst group and the gap, from the outcomes that the attacks left (nothing is run again)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ops.data.pictures import COLOURS, save_figure
from ops.errors import AmalgamError
from ops.evaluate.config import FairnessConfig
from ops.evaluate.intervals import bootstrap, group_gap, wilson
from ops.evaluate.measurements import NO_THREAT, row, write_measurements
from ops.files import read_json
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary


def read_predictions(robustness: Path, attribute: str) -> pd.DataFrame:
    """Return the outcomes with the group of each image in column `group`; AmalgamError if the attribute is unknown."""
    table = pq.read_table(robustness / "predictions.parquet").to_pandas()
    known = sorted(table["attributes"].iloc[0])
    if attribute not in known:
        raise AmalgamError(
            f"images have no attribute {attribute!r}", f"set fairness.attribute to one of: {', '.join(known)}"
        )
    return table.assign(group=[a[attribute] for a in table["attributes"]])


def measure_fairness(config: FairnessConfig, robustness: Path, real: Path, out: Path, monitor: Monitor) -> Summary:
    """Write accuracy and robust accuracy of every group (Wilson), the worst group, and the gap (bootstrap).

    gap = max_g - min_g of the groups' accuracy, the definition of the official code of Ktena et al. (2024); resampling
    is within groups. Splits are reported one by one: in distribution (test, near) and out of it (shift).
    """
    dataset = read_json(real / "dataset.json")
    table = read_predictions(robustness, config.attribute)
    rows: list[dict[str, Any]] = []
    parts = list(table.groupby(["model", "seed", "split", "threat"], sort=False))
    for done, ((model, seed, split, threat), mine) in enumerate(parts, start=1):
        metric = "accuracy" if threat == NO_THREAT else f"robust accuracy ({threat})"
        rows += _rows(config, mine, metric, f"{model}/seed-{seed}", dataset["name"], str(split))
        monitor.progress(done, len(parts), "evaluation")
    write_measurements(out / "measurements.parquet", rows)
    names = dataset.get("attribute_names", {}).get(config.attribute, {})
    _pictures(rows, config, names, out)
    return _summary(rows)


def _rows(
    config: FairnessConfig, table: pd.DataFrame, metric: str, model: str, dataset: str, split: str
) -> list[dict[str, Any]]:
    """Return one row for each group, one for the worst group and one for the gap."""
    rows = []
    for value, mine in table.groupby("group"):
        interval = wilson(int(mine["robust"].sum()), len(mine))
        rows.append(row(model, dataset, split, f"{config.attribute}={value}", metric, interval, len(mine)))
    worst = min(rows, key=lambda r: r["value"])
    rows.append({**worst, "metric": f"worst-group {metric}"})
    groups, outcomes = table["group"].to_numpy(), table["robust"].to_numpy(np.float64)
    seed = derive_seed(config.seed, model, split, metric)
    gap = bootstrap(group_gap(groups), outcomes, groups, config.replicates, seed)
    gap = (gap[0], min(gap[1], gap[0]), max(gap[2], gap[0]))  # a maximum is biased upwards under resampling
    rows.append(row(model, dataset, split, "all", f"{metric} gap", gap, len(table)))
    return rows


def _summary(rows: Sequence[Mapping[str, Any]]) -> Summary:
    """Return gaps by model and split, seeds averaged."""
    frame = pd.DataFrame(rows)
    gaps = frame[frame["metric"] == "accuracy gap"].groupby(["model", "split"])["value"].mean().unstack()
    worst = frame[frame["metric"] == "worst-group accuracy"].groupby(["model", "split"])["value"].mean().unstack()
    table: dict[str, list[dict[str, Any]]] = {
        name: [{"model": str(m), **{str(s): float(v) for s, v in line.items()}} for m, line in part.iterrows()]
        for name, part in (("accuracy gap", gaps), ("worst-group accuracy", worst))
    }
    return Summary({"smallest mean gap": float(gaps.mean(axis=1).min())}, table)


def _pictures(rows: Sequence[Mapping[str, Any]], config: FairnessConfig, names: Mapping[str, str], out: Path) -> None:
    """Save accuracy by group for each model (seeds averaged, first split), and utility against gap."""
    from matplotlib.figure import Figure

    frame = pd.DataFrame(rows)
    split = "test" if "test" in set(frame["split"]) else str(frame["split"].iloc[0])
    mine = frame[(frame["split"] == split) & frame["group"].str.startswith(f"{config.attribute}=")]
    clean = mine[mine["metric"] == "accuracy"].groupby(["model", "group"])["value"].mean().unstack()
    figure = Figure(figsize=(8.5, 3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    labels = [names.get(g.split("=")[1], g.split("=")[1]) for g in clean.columns]
    for number, (model, line) in enumerate(clean.iterrows()):
        left.plot(
            labels, line.to_numpy(), marker="o", color=COLOURS[number % 8], label=str(model).replace("classifier/", "")
        )
    left.set(ylabel="accuracy", title=f"{split}: accuracy by {config.attribute}", ylim=(0, 1))
    left.tick_params(axis="x", labelsize=7, rotation=20)
    left.legend(fontsize=7, frameon=False)
    gaps = frame[frame["metric"] == "accuracy gap"].groupby(["model", "split"])["value"].mean().unstack()
    groups = frame[frame["metric"] == "accuracy"].copy()
    groups["right"] = groups["value"] * groups["n"]
    sums = groups.groupby(["model", "split"])[["right", "n"]].sum()
    utility = (sums["right"] / sums["n"]).unstack()
    for number, model in enumerate(gaps.index):
        for s, marker in zip(gaps.columns, "osD^vP*", strict=False):
            right.scatter(utility.loc[model, s], gaps.loc[model, s], color=COLOURS[number % 8], marker=marker, s=24)
    right.set(xlabel="accuracy", ylabel="gap", title="utility against gap, by split", xlim=(0, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out / "pictures" / "fairness.png")
