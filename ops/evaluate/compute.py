"""Robust accuracy against what attacks spend: forward and backward passes on each image."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import NO_THREAT, SCHEMA, row, write_measurements

COMPUTE_SCHEMA = SCHEMA.append(pa.field("passes", pa.int64()))
"""Measurement rows with the number of passes that attacks may spend on an image."""
STEPS_PER_OCTAVE = 4
"""Budgets are 0, 1, and then all powers of 2^(1/4), rounded: the same for every model and run, as far as they go."""


def write_compute(out: Path, predictions: pd.DataFrame, config: RobustnessConfig, dataset: str) -> None:
    """Write `compute.parquet`, and the picture of the first split and threat that are attacked."""
    rows = compute_rows(predictions, dataset)
    write_measurements(out / "compute.parquet", rows, COMPUTE_SCHEMA)
    split, threat = config.attacked_splits()[0], str(config.threats[0])
    shown = pd.DataFrame(rows)
    shown = shown[(shown["split"] == split) & (shown["metric"] == _metric(threat))]
    draw_compute(shown, f"{split}, {threat}", out / "pictures" / "compute.png")


def compute_rows(predictions: pd.DataFrame, dataset: str) -> list[dict[str, Any]]:
    """Return robust accuracy after every budget of passes, for each model, seed, split and threat of `predictions`.

    The budget is for all attacks in their order; an image stands as long as it is classified correctly and has not fallen
    within the budget. Budget 0 gives clean accuracy on the images that are attacked, the last one robust accuracy.
    """
    attacked = predictions[predictions["threat"] != NO_THREAT]
    budgets = budgets_up_to(int(attacked["passes"].max()))
    rows = []
    for (model, seed, split, threat), table in attacked.groupby(["model", "seed", "split", "threat"]):
        fallen = np.where(table["robust"], np.inf, np.where(table["clean"], table["passes"], 0))
        standing = (fallen[None, :] > budgets[:, None]).sum(axis=1)
        for budget, count in zip(budgets.tolist(), standing.tolist(), strict=True):
            share = wilson(count, len(table))
            one = row(f"{model}/seed-{seed}", dataset, str(split), "all", _metric(str(threat)), share, len(table))
            rows.append(one | {"passes": budget})
    return rows


def budgets_up_to(most: int) -> np.ndarray:
    """Return the budgets (B,) int64 from 0 to the first that is `most` or more."""
    octaves = np.log2(max(most, 1))
    budgets = 2 ** (np.arange(np.ceil(octaves * STEPS_PER_OCTAVE) + 1) / STEPS_PER_OCTAVE)
    return np.unique([0, *np.ceil(budgets)]).astype(np.int64)


def draw_compute(rows: pd.DataFrame, title: str, path: Path) -> None:
    """Save robust accuracy against passes, a line for each model (mean over seeds)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 2.8))
    axes = figure.subplots()
    for number, (name, mine) in enumerate(rows.groupby("model")):
        means = mine.groupby("passes")["value"].mean()
        axes.plot(means.index, means, "-o", markersize=2.5, color=COLOURS[number % len(COLOURS)], label=name)
    axes.set_xscale("symlog", linthresh=1)  # a logarithm that has room for 0
    axes.set_xlim(left=-0.1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("forward and backward passes for each image", fontsize=8)
    axes.set_ylabel("robust accuracy", fontsize=8)
    axes.set_title(f"{title}: accuracy against what attacks spend", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _metric(threat: str) -> str:
    return f"robust accuracy ({threat})"
