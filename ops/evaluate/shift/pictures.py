"""Pictures of an evaluation under distribution shift."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.shift.names import ACCURACY, EM, KNOWN, PLAIN


def draw_domains(rows: pd.DataFrame, splits: Sequence[str], path: Path) -> None:
    """Save accuracy by domain and model with intervals, a panel for each split; seeds averaged."""
    from matplotlib.figure import Figure

    mine = rows[(rows["metric"] == ACCURACY) & rows["group"].str.startswith("domain=")]
    means = mine.groupby(["split", "group", "model"])[["value", "low", "high"]].mean()
    models = list(dict.fromkeys(rows["model"]))
    domains = {split: list(dict.fromkeys(mine.loc[mine["split"] == split, "group"])) for split in splits}
    widths = [max(1, len(found)) for found in domains.values()]
    figure = Figure(figsize=(max(6.0, 1.6 + sum(widths) * (0.3 + 0.16 * len(models))), 2.9), layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, split in zip(panels, splits, strict=True):
        places = np.arange(len(domains[split]))
        for number, model in enumerate(models):
            found = means.loc[[(split, domain, model) for domain in domains[split]]]
            error = [found["value"] - found["low"], found["high"] - found["value"]]
            offset = (number - (len(models) - 1) / 2) * 0.8 / len(models)
            colour, name = COLOURS[number % len(COLOURS)], model.replace("classifier/", "")
            axes.errorbar(places + offset, found["value"], error, fmt="o", markersize=4, color=colour, label=name)
        axes.set_xticks(places, [d.removeprefix("domain=") for d in domains[split]], fontsize=8)
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_title(split, fontsize=9)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylim=(0, 1))
    panels[0].set_ylabel("accuracy", fontsize=8)
    panels[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def draw_label_shift(rows: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Save accuracy under the priors `names` as it is, with estimated and with known priors; seeds averaged."""
    from matplotlib.figure import Figure

    styles = {PLAIN: ("o", "as it is"), EM: ("s", "priors estimated (EM)"), KNOWN: ("^", "priors known")}
    means = rows[rows["metric"].isin(styles)].groupby(["model", "group", "metric"])[["value", "low", "high"]].mean()
    models = list(dict.fromkeys(rows["model"]))
    figure = Figure(figsize=(max(6.0, 1.5 + 2.4 * len(models)), 2.9), layout="constrained")
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    places = np.arange(len(names))
    for axes, model in zip(panels, models, strict=True):
        for number, (metric, (marker, text)) in enumerate(styles.items()):
            found = means.loc[[(model, f"prior={name}", metric) for name in names]]
            error = [found["value"] - found["low"], found["high"] - found["value"]]
            colour, offset = COLOURS[number], (number - 1) * 0.22
            axes.errorbar(places + offset, found["value"], error, fmt=marker, markersize=4, color=colour, label=text)
        axes.set_xticks(places, names, fontsize=7, rotation=30, ha="right")
        axes.set_title(model.replace("classifier/", ""), fontsize=9)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylim=(0, 1))
    panels[0].set_ylabel("accuracy", fontsize=8)
    panels[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)
