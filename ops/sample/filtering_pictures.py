"""What the filter kept and dropped, for people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ops.data.pictures import COLOURS, images_of, labelled_rows, save_figure

CLASSES = 12
"""Most classes that a picture shows."""


def draw_confidence(table: pd.DataFrame, classes: Sequence[str], path: Path) -> None:
    """Save for each class (of the labels) a histogram of the scorer's confidence, kept rows on dropped ones.

    `table` has the columns label, confidence and reason (empty for kept rows).
    """
    from matplotlib.figure import Figure

    shown = list(classes)[:CLASSES]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.4 * columns, 1.7 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axis, name in zip(axes, shown, strict=False):
        mine = table[table["label"] == name]
        kept = (mine["reason"] == "").to_numpy()
        values = mine["confidence"].to_numpy(np.float64)
        axis.hist(
            [values[kept], values[~kept]],
            bins=np.linspace(0, 1, 21).tolist(),
            stacked=True,
            color=[COLOURS[0], COLOURS[6]],
            label=["kept", "dropped"],
        )
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("confidence of the scorer in the label", fontsize=8)
    figure.supylabel("images", fontsize=8)
    save_figure(figure, path)


def draw_extremes(synthetic: Path, table: pd.DataFrame, classes: Sequence[str], path: Path, columns: int = 10) -> None:
    """Save for each class the images in which the scorer sees the label best, and those in which it sees it least."""
    order = table.sort_values(["confidence", "id"], ascending=[False, True])
    picks: dict[str, pd.DataFrame] = {}
    for name in list(classes)[:CLASSES]:
        mine = order[order["label"] == name]
        half = min(columns, (len(mine) + 1) // 2)  # no image is in both rows
        picks |= {f"{name}: most": mine.head(half), f"{name}: least": mine.iloc[half:].tail(columns)[::-1]}
    picks = {name: rows for name, rows in picks.items() if len(rows)}
    found = images_of(synthetic, pd.concat(list(picks.values())))
    lines = {
        name: np.stack([found[place] for place in zip(rows["shard"], rows["key"], strict=True)])
        for name, rows in picks.items()
    }
    labelled_rows(lines, path, "synthetic images by the scorer's confidence in their label", columns)
