"""The plan beside the training split, for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ops.data.pictures import save_figure
from ops.sample.cells import Grid, column_of
from ops.sample.schema import EXTRAPOLATED, OVERSAMPLE

LINES = 40
"""Most classes, and most values of a factor, that are drawn: those with the most planned images."""
WRITTEN = 24
"""Counts are written into the cells where a row has at most so many."""
MARKS = (("*", "kind", EXTRAPOLATED), ("o", "method", OVERSAMPLE))


def draw_plan(cells: pd.DataFrame, grid: Grid, dataset: Mapping[str, Any], path: Path) -> None:
    """Save heat maps of training images and planned ones, class by value: a row of two for each factor beside the class.

    A star marks planned cells that no training image shows, a circle those whose training images are repeated; with several
    factors, of the cells that are summed up.
    """
    from matplotlib.figure import Figure

    classes = _most(cells["label"], cells, grid.values[0])
    panels = {f: _most(cells[column_of(f)], cells, v) for f, v in list(zip(grid.factors, grid.values, strict=True))[1:]}
    panels = panels or {"": ["all"]}
    width, height = max(map(len, panels.values())), len(classes)
    figure = Figure(figsize=(2 * (0.42 * width + 1.6), len(panels) * (0.28 * height + 1.1)), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for (factor, values), pair in zip(panels.items(), axes, strict=True):
        mine = cells.assign(value=cells[column_of(factor)] if factor else "all")
        names = dataset.get("attribute_names", {}).get(factor, {})
        for axis, column, title in zip(pair, ("real", "planned"), ("training images", "planned images"), strict=True):
            counts = mine.pivot_table(column, "label", "value", "sum").reindex(index=classes, columns=values)
            _heat_map(figure, axis, counts.fillna(0).to_numpy())
            axis.set_title(title, fontsize=9)
            axis.set_xticks(
                range(len(values)), [str(names.get(v, v)) for v in values], fontsize=7, rotation=30, ha="right"
            )
            axis.set_yticks(range(height), classes, fontsize=7)
            axis.set_xlabel(factor, fontsize=8)
        _marks(pair[1], mine[mine["planned"] > 0], classes, values)
    save_figure(figure, path)


def _most(column: "pd.Series[Any]", cells: pd.DataFrame, values: Sequence[str]) -> list[str]:
    """Return the values of a factor (`column` of `cells`) with the most planned images, in their own order."""
    counts = cells.groupby(column)[["planned", "real"]].sum().sort_values(["planned", "real"], ascending=False)
    chosen = set(counts.index[:LINES])
    return [value for value in values if value in chosen]


def _heat_map(figure: Any, axis: Any, counts: np.ndarray) -> None:
    """Draw counts (K, V)."""
    shown = axis.imshow(counts, cmap="viridis", vmin=0, aspect="auto")
    if counts.shape[1] > WRITTEN:
        figure.colorbar(shown, ax=axis)
        return
    for (row, column), value in np.ndenumerate(counts):
        ink = "black" if value > 0.6 * counts.max() else "white"
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=ink)


def _marks(axis: Any, planned: pd.DataFrame, classes: Sequence[str], values: Sequence[str]) -> None:
    """Mark the cells that are composed, and those whose training images are repeated."""
    for mark, column, kind in MARKS:
        cells = planned[planned[column] == kind]
        x, y = (pd.Index(all_).get_indexer(cells[of]) for all_, of in ((values, "value"), (classes, "label")))
        shown = (x >= 0) & (y >= 0)
        axis.plot(x[shown] + 0.36, y[shown] - 0.28, mark, color="red", markersize=4, fillstyle="none")
