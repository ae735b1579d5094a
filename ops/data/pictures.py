"""Small pictures of data for people: contact sheets and bar charts, with bytes that depend on content only."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def png(image: Image.Image) -> bytes:
    """Return `image` as optimised PNG bytes without metadata."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def save_figure(figure, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Save a matplotlib figure as PNG without the metadata that would change with the version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, bbox_inches="tight", metadata={"Software": None})


def grid(images: np.ndarray, columns: int, scale: int = 2, gap: int = 2) -> Image.Image:
    """Return images (N, H, W, 3) uint8 as one picture, row by row, each pixel `scale` wide."""
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def labelled_rows(rows: Mapping[str, np.ndarray], path: Path, title: str, columns: int = 12) -> None:
    """Save a picture with one row of images (N, H, W, 3) uint8 for each name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.55 * columns + 1.2, 0.6 * len(rows) + 0.5))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        shown = images[:columns]
        blank = np.full((columns - len(shown), *images.shape[1:]), 255, np.uint8)
        axis.imshow(np.asarray(grid(np.concatenate([shown, blank]), columns, scale=1)), interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        for side in axis.spines.values():
            side.set_visible(False)
    axes[0].set_title(title, fontsize=10)  # a title of the figure would leave a gap that grows with the rows
    save_figure(figure, path)


def images_of(folder: Path, rows: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Return images (H, W, 3) uint8 of a shard folder by shard and key, for a few rows of its manifest."""
    from ops.data.hashing import decode
    from ops.data.shards import read_images

    found: dict[tuple[str, str], np.ndarray] = {}
    for shard, mine in rows.groupby("shard"):
        images = read_images(folder, str(shard), set(mine["key"]))
        found |= {(str(shard), key): decode(data) for key, data in images.items()}
    return found


def contact_sheet(folder: Path, split: str, path: Path, title: str, columns: int = 12) -> None:
    """Save a picture of the first images of each class of `split` in a shard folder."""
    from ops.data.manifest import read_manifest

    table = read_manifest(folder)
    table = table[table["split"] == split]
    chosen = table.sort_values("sha256").groupby("label").head(columns)
    found = images_of(folder, chosen)
    lines = {
        str(label): np.stack([found[s, k] for s, k in zip(rows["shard"], rows["key"], strict=True)])
        for label, rows in chosen.groupby("label")
    }
    if lines:
        labelled_rows(lines, path, title, columns)


def bars(groups: Mapping[str, Sequence[float]], names: Sequence[str], path: Path, title: str, axis: str) -> None:
    """Save a bar chart with one cluster of bars for each of `names` and one colour for each of `groups`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 0.5 * len(names) * len(groups) + 2), 2.8))
    axes = figure.subplots()
    width = 0.8 / len(groups)
    for number, (group, values) in enumerate(groups.items()):
        axes.bar(
            np.arange(len(names)) + number * width, values, width, label=group, color=COLOURS[number % len(COLOURS)]
        )
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, fontsize=8)
    axes.set_ylabel(axis, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"]
"""The colour-blind-safe palette of Okabe and Ito (2008)."""
