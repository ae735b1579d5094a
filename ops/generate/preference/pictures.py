"""Pictures of a study: ratings with their intervals, and who wins against whom."""

from pathlib import Path

import numpy as np

from ops.data.pictures import COLOURS, save_figure
from ops.generate.preference.ratings import Ratings
from ops.generate.preference.strength import MEAN
from ops.generate.preference.winning import WinRates


def draw_ratings(found: Ratings, path: Path, title: str) -> None:
    """Save the ratings, the best on top, with 95 % intervals; the dashed line is the mean."""
    from matplotlib.figure import Figure

    order = np.argsort(-found.ratings, kind="stable")
    figure = Figure(figsize=(6, 0.9 + 0.4 * len(order)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(order))
    axes.hlines(places, found.low[order], found.high[order], color=COLOURS[0], linewidth=2)
    axes.scatter(found.ratings[order], places, s=28, color=COLOURS[0], zorder=3)
    for place, i in zip(places, order, strict=True):
        axes.annotate(
            f"{found.ratings[i]:.0f}",
            (found.ratings[i], place),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.axvline(MEAN, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_yticks(places, [found.sources[i] for i in order], fontsize=8)
    axes.set_ylim(len(order) - 0.5, -0.7)
    axes.set_xlabel(f"Elo rating, 95 % interval over {found.counted}", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_win_rates(found: WinRates, path: Path, title: str) -> None:
    """Save a heat map: the share of votes that the row wins against the column, ties half, with 95 % intervals."""
    from matplotlib.figure import Figure

    count = len(found.sources)
    order = np.argsort(-np.nan_to_num(np.nanmean(_without_diagonal(found.rate), axis=1), nan=0.5), kind="stable")
    rate = found.rate[np.ix_(order, order)]
    figure = Figure(figsize=(2.2 + 0.95 * count, 1.5 + 0.6 * count), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(np.ma.masked_invalid(rate), cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            if found.votes[i, j]:
                text = f"{100 * found.rate[i, j]:.0f} %\n{100 * found.low[i, j]:.0f} to {100 * found.high[i, j]:.0f}"
                colour = "white" if abs(rate[row, column] - 0.5) > 0.3 else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    names = [found.sources[i] for i in order]
    axes.set_xticks(range(count), names, fontsize=7, rotation=20, ha="right")
    axes.set_yticks(range(count), names, fontsize=7)
    axes.set_xlabel("loses", fontsize=8)
    axes.set_ylabel("wins", fontsize=8)
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(shown, ax=axes)
    bar.set_label("share of votes won, ties half", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    save_figure(figure, path)


def _without_diagonal(rate: np.ndarray) -> np.ndarray:
    """Return a rate (M, M) with one half on the diagonal, so that no row is empty."""
    return np.where(np.eye(len(rate), dtype=bool), 0.5, rate)
