"""Pictures of training runs side by side; colours, line styles and markers mean the same in all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.intervals import Interval

WIDTH = 7.6
"""Inches; at the 90 dpi of all pictures just under 700 pixels, which is as wide as they are shown."""
STYLES: dict[str, Literal["-", "--"]] = {"averaged": "-", "live": "--"}
SIDES = {"averaged": (COLOURS[0], -0.16), "live": (COLOURS[1], 0.16)}


def draw_overfitting(curves: pd.DataFrame, split: str, axis: str, path: Path) -> None:
    """Save robust accuracy against epoch, a panel for each recipe: mean over seeds, with a band of min ... max.

    Thick lines are images of `split`, thin ones training images; solid is averaged, dashed live weights. A ring marks the
    peak of the averaged weights. `curves` has the columns of `curves.parquet`, with recipe names as `model`.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    curves = curves[(curves["metric"] == "robust accuracy") & curves["split"].isin([split, "train"])]
    names = list(dict.fromkeys(curves["model"]))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for number, (axes, name) in enumerate(zip(grid, names, strict=False)):
        colour = COLOURS[number % len(COLOURS)]
        mine = curves[curves["model"] == name]
        for (weights, where), part in mine.groupby(["weights", "split"]):
            seeds = part.groupby("epoch")["value"].agg(["mean", "min", "max"])
            thick = where == split
            axes.plot(
                seeds.index, seeds["mean"], STYLES[str(weights)], color=colour, linewidth=1.8 if thick else 0.7,
                marker=".", markersize=5 if thick else 2,
            )  # fmt: skip
            axes.fill_between(seeds.index, seeds["min"], seeds["max"], color=colour, alpha=0.15, linewidth=0)
            if thick and weights == "averaged":
                peak = seeds["mean"].idxmax()
                axes.plot(peak, seeds["mean"][peak], "o", markersize=9, markerfacecolor="none", color="black")
        axes.set_title(name, fontsize=9)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(axis, fontsize=9)
    grey = COLOURS[6]
    handles = [Line2D([], [], color=grey, linestyle=style, linewidth=1.8, label=w) for w, style in STYLES.items()]
    if (curves["split"] == "train").any():
        handles.append(Line2D([], [], color=grey, linewidth=0.7, label="on training images"))
    ring: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "none"}
    handles.append(Line2D([], [], color="black", label="peak (averaged)", **ring))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_augmentation(
    figures: pd.DataFrame, metrics: tuple[str, str], labels: Mapping[str, str], axis: str, path: Path
) -> None:
    """Save best (ring) and last (dot) robust accuracy of each recipe, averaged beside live weights.

    Means over seeds; a whisker spans the seeds. `figures` has the columns model, weights, metric and value; `metrics`
    names best and last; `labels` are what stands beside each recipe, in their order.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(WIDTH, 0.62 * len(labels) + 1.3), layout="constrained")
    axes = figure.subplots()
    shown = figures[figures["metric"].isin(metrics)]
    table = shown.groupby(["model", "weights", "metric"])["value"].agg(["mean", "min", "max"])
    for place, name in enumerate(labels):
        for weights, (colour, shift) in SIDES.items():
            if (name, weights, metrics[0]) not in table.index:
                continue
            best, last = (table.loc[(name, weights, metric)] for metric in metrics)
            y = place + shift
            axes.plot([best["mean"], last["mean"]], [y, y], color=colour, linewidth=1.5)
            for each, face in ((best, "white"), (last, colour)):
                axes.plot([each["min"], each["max"]], [y, y], "|-", color=colour, linewidth=0.7, markersize=7)
                axes.plot(each["mean"], y, "o", color=colour, markerfacecolor=face, markersize=7)
    axes.set_yticks(range(len(labels)), list(labels.values()), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(axis, fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=c, linewidth=2, label=f"{w} weights") for w, (c, _) in SIDES.items()]
    for face, label in (("white", "best"), (COLOURS[6], "last")):
        dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markerfacecolor": face}
        handles.append(Line2D([], [], color=COLOURS[6], label=label, **dot))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_alpha(
    intervals: Mapping[str, Interval],
    fractions: Mapping[str, float],
    lines: Sequence[Sequence[str]],
    axis: str,
    path: Path,
) -> None:
    """Save the last robust accuracy of averaged weights against the share of real images, with 95 % intervals.

    `intervals` and `fractions` (the shares) are by recipe name; `lines` are recipes that differ in nothing else, joined in
    grey.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    for line in lines:
        points = [(fractions[name], intervals[name][0]) for name in line]
        axes.plot(*zip(*points, strict=True), color=COLOURS[6], linewidth=1, zorder=1)
    for number, (name, (value, low, high)) in enumerate(intervals.items()):
        axes.errorbar(
            fractions[name], value, [[value - low], [high - value]], capsize=3, label=name,
            color=COLOURS[number % len(COLOURS)], marker="osD^vP"[number // len(COLOURS) % 6], linestyle="none",
        )  # fmt: skip
    axes.set_xlim(-0.05, 1.05)
    axes.set_xlabel("share of real images in a batch (alpha)", fontsize=9)
    axes.set_ylabel(f"last {axis}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)
