"""Pictures of the quality report: every source beside what real images reach, and samples of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from ops.data.loading import ImageSet
from ops.data.pictures import COLOURS, labelled_rows, save_figure
from ops.generate.quality.checks import REAL
from ops.generate.quality.groups import Row
from ops.generate.quality.utility import METRIC
from ops.runtime import derive_seed

DISTANCES = ("Fréchet distance", "kernel distance", "Gaussian kernel distance x 1000")
SHARES = ("precision", "recall", "density", "coverage")


def draw_quality(
    rows: Sequence[Row],
    spaces: Sequence[str],
    train: ImageSet,
    sources: Mapping[str, ImageSet],
    attribute: str,
    names: Mapping[str, str],
    out: Path,
    seed: int = 0,
) -> None:
    """Save all pictures in `out`: distances, manifolds, utility, alignment, groups, and samples of every source.

    Args:
        rows: what `measure_quality` returns; the first held-out split is drawn.
        spaces: whose distances are drawn, the first one by group too.
        train: real training images, for samples.
        sources: the sources, for samples.
        attribute: the attribute of groups.
        names: names of its values for people.
        out: the folder of pictures.
        seed: chooses the samples.
    """
    frame = pd.DataFrame(rows)
    split = next(s for s in frame["split"] if s != "train")
    mine = frame[frame["split"] == split]
    whole = mine[mine["group"] == "all"]
    models = list(dict.fromkeys([REAL, *mine["model"]]))
    _distances(whole, spaces, models, split, out / "distances.png")
    _manifolds(whole, spaces, models, split, out / "manifolds.png")
    worst = mine[mine["metric"] == f"worst-group {METRIC}"].assign(group="all")
    usefulness = {"all images": (whole, METRIC), f"worst {attribute}": (worst, f"worst-group {METRIC}")}
    _clusters(usefulness, models, f"accuracy on {split} after training on a source", out / "utility.png")
    factors = [m for m in whole["metric"].unique() if m.startswith("alignment (") and "gap" not in m]
    aligned = {fill(_inside(m), 16): (whole, m) for m in factors}
    _clusters(aligned, models, f"share of images that show what was asked for (real: {split})", out / "alignment.png")
    _groups(mine, f"coverage ({spaces[0]})", models, attribute, names, split, out / "groups.png")
    for name, images in {REAL: train, **sources}.items():
        path = out / f"samples-{name.replace('/', '-')}.png"
        draw_samples(name, images, attribute, names, path, seed)


def draw_samples(
    name: str, images: ImageSet, attribute: str, names: Mapping[str, str], path: Path, seed: int = 0
) -> None:
    """Save samples of the source `name` by class, by `attribute` and, where there are several, by domain."""
    labelled_rows(samples(images, attribute, names, 12, seed), path, f"{name}: images by class, {attribute} and domain")


def samples(images: ImageSet, attribute: str, names: Mapping[str, str], count: int, seed: int) -> dict[str, np.ndarray]:
    """Return at most `count` random images (n, H, W, 3) uint8 of each class, value of an attribute and domain, by name."""
    found = {}
    for column, title in (("label", "class"), (f"attribute:{attribute}", attribute), ("domain", "domain")):
        values = images.table[column]
        known = sorted(values.dropna().unique())
        for value in known if title != "domain" or len(known) > 1 else ():
            places = np.flatnonzero(values == value)
            rng = np.random.default_rng(derive_seed(seed, "samples", column, str(value)))
            chosen = np.sort(rng.permutation(places)[:count])
            text = str(value) if title == "class" else f"{title} {names.get(str(value), value)}"
            found[text] = np.asarray(images.images[chosen])
    return found


def _distances(whole: pd.DataFrame, spaces: Sequence[str], models: Sequence[str], split: str, path: Path) -> None:
    """Save one panel for each distance and space; the dashed line is the floor, what real training images reach."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * len(spaces) + 0.6, 6.4), layout="constrained")
    panels = figure.subplots(len(DISTANCES), len(spaces), squeeze=False)
    for line, metric in zip(panels, DISTANCES, strict=True):
        for axes, space in zip(line, spaces, strict=True):
            found = _of(whole, f"{metric} ({space})", models)
            _bars(axes, np.arange(len(models)), found, 0.7, _colours(models))
            axes.axhline(found["value"].iloc[0], color="#555555", linewidth=0.9, linestyle="--")
            axes.set_xticks(range(len(models)), models, fontsize=7, rotation=20)
            axes.set_title(f"{metric}\n{space}", fontsize=8)
    figure.suptitle(f"distances from {split}; dashed: real training images", fontsize=10)
    save_figure(figure, path)


def _manifolds(whole: pd.DataFrame, spaces: Sequence[str], models: Sequence[str], split: str, path: Path) -> None:
    """Save precision, recall, density and coverage, one panel for each space."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(spaces) + 0.6, 3), layout="constrained")
    for axes, space in zip(figure.subplots(1, len(spaces), squeeze=False)[0], spaces, strict=True):
        _cluster(axes, {name: (whole, f"{name} ({space})") for name in SHARES}, models)
        axes.set_title(space, fontsize=8)
    _legend(figure, models)
    figure.suptitle(f"likeness (precision, density) and variety (recall, coverage) against {split}", fontsize=10)
    save_figure(figure, path)


def _groups(
    mine: pd.DataFrame,
    coverage: str,
    models: Sequence[str],
    attribute: str,
    names: Mapping[str, str],
    split: str,
    path: Path,
) -> None:
    """Save coverage, alignment and usefulness by group."""
    from matplotlib.figure import Figure

    metrics = (coverage, "alignment (all factors)", METRIC)
    figure = Figure(figsize=(8, 6), layout="constrained")
    for axes, metric in zip(figure.subplots(len(metrics), 1), metrics, strict=True):
        part = mine[(mine["metric"] == metric) & mine["group"].str.startswith(f"{attribute}=")]
        values = [group.split("=", 1)[1] for group in sorted(part["group"].unique())]
        clusters = {
            names.get(v, v): (part[part["group"] == f"{attribute}={v}"].assign(group="all"), metric) for v in values
        }
        if clusters:
            _cluster(axes, clusters, models)
        axes.set_title(metric, fontsize=8)
    _legend(figure, models)
    figure.suptitle(f"{split}: quality by {attribute}", fontsize=10)
    save_figure(figure, path)


def _clusters(clusters: Mapping[str, tuple[pd.DataFrame, str]], models: Sequence[str], title: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 1.5 * len(clusters) + 1), 3), layout="constrained")
    axes = figure.subplots()
    _cluster(axes, clusters, models)
    axes.set_title(title, fontsize=10)
    _legend(figure, models)
    save_figure(figure, path)


def _cluster(axes: Any, clusters: Mapping[str, tuple[pd.DataFrame, str]], models: Sequence[str]) -> None:
    """Draw one bar for each model, with its interval, in each cluster of (rows, metric); what was not measured has none."""
    width = 0.8 / len(models)
    for place, (rows, metric) in enumerate(clusters.values()):
        where = place + (np.arange(len(models)) - (len(models) - 1) / 2) * width
        _bars(axes, where, _of(rows, metric, models), width, _colours(models))
    axes.set_xticks(range(len(clusters)), list(clusters), fontsize=7)


def _bars(axes: Any, where: np.ndarray, found: pd.DataFrame, width: float, colours: Sequence[str]) -> None:
    """Draw bars with intervals."""
    error = np.abs(found[["low", "high"]].to_numpy().T - found["value"].to_numpy())
    axes.bar(where, found["value"], width, color=colours, yerr=error, error_kw={"elinewidth": 0.8, "ecolor": "#333333"})
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _of(rows: pd.DataFrame, metric: str, models: Sequence[str]) -> pd.DataFrame:
    """Return value and interval of each model; NaN where it has none."""
    mine = rows[(rows["metric"] == metric) & (rows["group"] == "all")]
    return mine.set_index("model")[["value", "low", "high"]].reindex(list(models))


def _colours(models: Sequence[str]) -> list[str]:
    """Return grey for real images, then the palette."""
    palette = [c for c in COLOURS if c != "#999999"]
    return ["#999999", *(palette[number % len(palette)] for number in range(len(models) - 1))]


def _legend(figure: Any, models: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour) for colour in _colours(models)]
    figure.legend(handles, models, loc="outside lower center", ncols=len(models), fontsize=7, frameon=False)


def _inside(metric: str) -> str:
    return metric.removeprefix("alignment (").removesuffix(")")
