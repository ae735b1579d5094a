"""Pictures of an evaluation under corruptions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ops.data.pictures import COLOURS, labelled_rows, save_figure
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.images import Source
from ops.evaluate.corruptions.rows import PLAIN_ACCURACY


def draw_accuracies(rows: Sequence[Mapping[str, Any]], config: CorruptionsConfig, source: Source, path: Path) -> None:
    """Save accuracy by corruption and model on the first split, severities and seeds averaged.

    Bars lie on their sides, one cluster for each corruption: 15 names do not fit below a chart.
    """
    from matplotlib.figure import Figure

    metrics = {name: f"accuracy under {name}" for name in config.corruptions}
    if source.has_plain:
        metrics = {"none": PLAIN_ACCURACY} | metrics
    first = [r for r in rows if r["split"] == source.splits[0]]
    models = list(dict.fromkeys(r["model"] for r in first))
    figure = Figure(figsize=(6.5, 0.8 + len(metrics) * (0.12 + 0.09 * len(models))))
    axes = figure.subplots()
    places, width = np.arange(len(metrics)), 0.8 / len(models)
    for number, model in enumerate(models):
        means = [
            np.mean([r["value"] for r in first if (r["model"], r["metric"]) == (model, m)]) for m in metrics.values()
        ]
        axes.barh(
            places + number * width,
            means,
            width,
            label=model.replace("classifier/", ""),
            color=COLOURS[number % len(COLOURS)],
        )
    axes.set_yticks(places + 0.4 - width / 2, [name.replace("_", " ") for name in metrics], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    severities = ", ".join(map(str, config.severities))
    axes.set_title(f"{source.splits[0]}, {source.kind}, severity {severities}", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_contact_sheet(config: CorruptionsConfig, source: Source, path: Path) -> None:
    """Save the first image under every corruption (rows) at every severity (columns)."""
    plain = [source.images.images[0]] if source.has_plain else []
    rows = {}
    for name in config.corruptions:
        found = [source.first((name, severity)) for severity in config.severities]
        rows[name.replace("_", " ")] = np.stack([*plain, *found])
    severities = ", ".join(map(str, config.severities))
    title = f"{source.kind}, severity {severities}" + (", after the image as it is" if plain else "")
    labelled_rows(rows, path, title, columns=len(plain) + len(config.severities))
