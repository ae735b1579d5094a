"""Pictures of fairness: every group with its interval, and what utility costs in fairness."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.fairness.names import ACCURACY, AUROC, EVERYONE, IN, OUT, gap, shown

HATCHES, MARKERS = ("", "////", "...."), "osD"
"""Of models beyond the colours."""


def draw_groups(rows: pd.DataFrame, axis: str, names: Mapping[str, Mapping[str, str]], path: Path) -> None:
    """Save accuracy by group of an axis with 95 % intervals: a panel for each part, a bar for each model, seeds averaged."""
    from matplotlib.figure import Figure

    mine = rows[(rows["metric"] == ACCURACY) & rows["group"].str.startswith(f"{axis}=")]
    parts = [part for part in (IN, OUT) if (mine["split"] == part).any()]
    if not parts:
        return
    means = mine.groupby(["split", "model", "group"])[["value", "low", "high"]].mean()
    models = sorted(set(mine["model"]))
    widest = max(mine.loc[mine["split"] == part, "group"].nunique() for part in parts)
    width = float(np.clip(1.5 + 0.16 * widest * (len(models) + 1), 5, 22))
    figure = Figure(figsize=(width, 2.3 * len(parts) + 0.5), layout="constrained")
    for axes, part in zip(figure.subplots(len(parts), 1, squeeze=False)[:, 0], parts, strict=True):
        groups = sorted(set(mine.loc[mine["split"] == part, "group"]))
        for number, model in enumerate(models):
            found = means.loc[(part, model)].reindex(groups)
            places = np.arange(len(groups)) + (number - (len(models) - 1) / 2) * 0.8 / len(models)
            reach = [found["value"] - found["low"], found["high"] - found["value"]]
            axes.bar(
                places, found["value"], 0.8 / len(models), yerr=reach, color=COLOURS[number % len(COLOURS)],
                hatch=HATCHES[number // len(COLOURS) % len(HATCHES)], edgecolor="white", linewidth=0,
                label=model.replace("classifier/", ""), error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
            )  # fmt: skip
        labels = [shown(group, names).replace(", ", "\n") for group in groups]
        axes.set_xticks(np.arange(len(groups)), labels, fontsize=7)
        axes.set_ylabel(ACCURACY, fontsize=8)
        axes.set(ylim=(0, 1), xlim=(-0.6, len(groups) - 0.4))
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(f"{part}: accuracy by {axis}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(models), 5), fontsize=7, frameon=False)
    save_figure(figure, path)


def draw_utility(rows: pd.DataFrame, axis: str, path: Path) -> None:
    """Save a measure of all images against its gap along an axis, with 95 % intervals: a column for each part.

    Rows are accuracy and AUROC, where they are known; seeds averaged. The best model is on the lower right.
    """
    from matplotlib.figure import Figure

    wide = rows[rows["group"] == axis]
    parts = [part for part in (IN, OUT) if (rows["split"] == part).any()]
    metrics = [m for m in (ACCURACY, AUROC) if (wide["metric"] == gap(m)).any()]
    if not metrics:
        return
    models = sorted(set(rows["model"]))
    figure = Figure(figsize=(3.4 * len(parts) + 0.4, 2.7 * len(metrics) + 0.4), layout="constrained")
    panels = figure.subplots(len(metrics), len(parts), squeeze=False, sharex="row", sharey="row")
    columns = ["value", "low", "high"]
    for metric, line in zip(metrics, panels, strict=True):
        whole = rows[(rows["metric"] == metric) & (rows["group"] == EVERYONE)]
        utility = whole.groupby(["split", "model"])[columns].mean()
        cost = wide[wide["metric"] == gap(metric)].groupby(["split", "model"])[columns].mean()
        for axes, part in zip(line, parts, strict=True):
            for number, model in enumerate(models):
                if (part, model) not in utility.index or (part, model) not in cost.index:
                    continue
                x, y = utility.loc[(part, model)], cost.loc[(part, model)]
                axes.errorbar(
                    x["value"], y["value"],
                    xerr=[[x["value"] - x["low"]], [x["high"] - x["value"]]],
                    yerr=[[y["value"] - y["low"]], [y["high"] - y["value"]]],
                    fmt=MARKERS[number // len(COLOURS) % len(MARKERS)], markersize=4, elinewidth=0.8,
                    color=COLOURS[number % len(COLOURS)],
                    label=model.replace("classifier/", ""),
                )  # fmt: skip
            axes.set_xlabel(metric, fontsize=8)
            axes.set_ylabel(f"gap between groups ({axis})", fontsize=8)
            axes.set_ylim(bottom=0)
            axes.tick_params(labelsize=7)
            axes.set_title(part, fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
    found = [axes.get_legend_handles_labels() for axes in panels.flat]
    by_name = {name: handle for handles, names in found for handle, name in zip(handles, names, strict=True)}
    figure.legend(by_name.values(), by_name.keys(), loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    save_figure(figure, path)
