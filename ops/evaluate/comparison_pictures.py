"""The forest plot of differences between models."""

from pathlib import Path

import pandas as pd

from ops.data.pictures import COLOURS, save_figure


def draw_forest(lines: pd.DataFrame, path: Path) -> None:
    """Save differences with their intervals: a panel for each measure, a row for each pair, a colour for each split.

    `lines` has columns `model, than, split, measure, effect, low, high, low_images, high_images, significant`. The thin
    line is the interval over images and seeds, the thick one over images only; a filled point is significant. Intervals
    that are much wider than the others are cut at the edge of the panel.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    measures, splits = list(dict.fromkeys(lines["measure"])), list(dict.fromkeys(lines["split"]))
    pairs = list(dict.fromkeys(zip(lines["model"], lines["than"], strict=True)))
    step = 0.8 / len(splits)
    height = 0.9 + len(pairs) * max(0.3, 0.13 * len(splits))
    figure = Figure(figsize=(2.2 + 3.2 * len(measures), height), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        mine = lines[lines["measure"] == measure]
        for number, split in enumerate(splits):
            part = mine[mine["split"] == split]
            where = [pairs.index(pair) for pair in zip(part["model"], part["than"], strict=True)]
            y = [row + (number - (len(splits) - 1) / 2) * step for row in where]
            colour = COLOURS[number % len(COLOURS)]
            axes.hlines(y, 100 * part["low"], 100 * part["high"], color=colour, linewidth=1)
            axes.hlines(y, 100 * part["low_images"], 100 * part["high_images"], color=colour, linewidth=2.5)
            faces = [colour if real else "white" for real in part["significant"]]
            axes.scatter(100 * part["effect"], y, s=16, c=faces, edgecolors=colour, linewidths=1, zorder=3)
        axes.axvline(0, color="#999999", linewidth=0.8, linestyle="--")
        whole = mine[["low", "high"]].abs().to_numpy().max()
        reach = min(whole, 3 * mine[["low_images", "high_images"]].abs().to_numpy().max() + 0.01)
        axes.set_xlim(-105 * reach - 0.5, 105 * reach + 0.5)
        axes.set_title(measure, fontsize=9)
        axes.set_xlabel("difference (points)", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    names = [f"{model} \N{MINUS SIGN} {than}".replace("classifier/", "") for model, than in pairs]
    panels[0].set_yticks(range(len(pairs)), names)
    panels[0].invert_yaxis()
    colours = [Line2D([], [], color=COLOURS[number % len(COLOURS)], linewidth=2.5) for number in range(len(splits))]
    figure.legend(colours, splits, loc="outside lower center", ncols=len(splits), fontsize=7, frameon=False)
    save_figure(figure, path)
