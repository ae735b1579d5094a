"""Pictures of a training of the generator: its loss, and samples."""

import textwrap
from pathlib import Path

import numpy as np
import torch

from ops.data.loading import ImageSet
from ops.data.pictures import COLOURS, labelled_rows, save_figure
from ops.generate.generator import Generator
from ops.generate.model_config import DiffusionConfig
from ops.generate.sampler_config import SamplerConfig
from ops.generate.sampling import sample_rows
from ops.generate.text import encode_captions
from ops.progress import Monitor

COLUMNS = 12
TITLE = 72
"""Letters in a line of the title, which is then narrower than a row of images."""


def draw_loss(losses: list[float], path: Path) -> None:
    """Save the loss curve, smoothed over a fiftieth of the run."""
    from matplotlib.figure import Figure

    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(5, 2.6))
    axes = figure.subplots()
    axes.plot(np.arange(len(smooth)) + window / 2, smooth, color=COLOURS[0])
    axes.set(xlabel="step", ylabel="loss", title="loss of the diffusion model")
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_samples(
    source: Generator,
    images: ImageSet,
    config: DiffusionConfig,
    path: Path,
    lineage: str,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    columns: int = COLUMNS,
) -> None:
    """Save samples of each class, told what evenly chosen training images of the class are told.

    Few solver steps: this is the first look; `synthetic_shards` samples with the settings of the profile.
    """
    table = images.table
    rows = []
    for label in images.classes:
        mine = table[table["label"] == label]
        rows += mine.iloc[np.linspace(0, len(mine) - 1, columns).astype(int)].to_dict("records")
    rows = [{**row, "index": number} for number, row in enumerate(rows)]
    captions = [row["caption"] for row in rows]
    text = encode_captions(captions, config.max_tokens, cache, device, monitor, config.encoder)
    sampler = SamplerConfig(steps=8, solver="heun", guidance=1.5, seed=config.seed)
    made = sample_rows(sampler, source, rows, text, device, monitor)
    lines = {label: made[i * columns : (i + 1) * columns] for i, label in enumerate(images.classes)}
    labelled_rows(lines, path, wrapped(f"samples; {lineage}"), columns)


def wrapped(title: str) -> str:
    """Return `title` in lines that are no wider than `COLUMNS` images."""
    return textwrap.fill(title, TITLE)
