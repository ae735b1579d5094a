"""Pictures of robustness for people: accuracy by attack, calibration, and the worst examples."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
import torch

from ops.data.pictures import bars, grid, save_figure
from ops.evaluate.calibration import draw_reliability, reliability
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import NO_THREAT

WIDTH = 16
"""Characters that a class name may have above an image."""


def draw_accuracies(predictions: pd.DataFrame, config: RobustnessConfig, path: Path) -> None:
    """Save accuracy before and after each attack by model (seeds together), of the first split and threat."""
    split, threat = config.attacked_splits()[0], str(config.threats[0])
    table = predictions[(predictions["split"] == split) & (predictions["threat"] == threat)]
    means = table.groupby("model")[["clean", *config.attack_names(), "robust"]].mean()
    names = [_short(name) for name in means.index]
    bars({column: means[column].tolist() for column in means}, names, path, f"{split}, {threat}", "accuracy")


def draw_calibration(predictions: pd.DataFrame, config: RobustnessConfig, path: Path) -> None:
    """Save the reliability diagrams of all models on the first split, before and after temperature scaling."""
    split = config.attacked_splits()[0]
    plain = predictions[(predictions["split"] == split) & (predictions["threat"] == NO_THREAT)]
    panels = {
        f"{split}, {title}, seeds together": {
            _short(model): reliability(part[column].to_numpy(), part["clean"].to_numpy(bool))
            for model, part in plain.groupby("model")
        }
        for title, column in (("as trained", "confidence"), ("temperature scaled", "scaled_confidence"))
    }
    draw_reliability(panels, path)


def draw_worst_examples(
    table: pd.DataFrame, images: torch.Tensor, adversarials: torch.Tensor, title: str, path: Path
) -> None:
    """Save a picture with a column for each row of `table`: image, perturbation, adversarial image.

    `images` and `adversarials` are (N, 3, H, W) float32 in [0, 1]. Each perturbation is stretched until its largest value
    is black or white; grey is no change. Above is what the model sees, and how surely, after which attack.
    """
    from matplotlib.figure import Figure

    change = adversarials - images
    largest = change.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
    rows: Mapping[str, torch.Tensor] = {
        "image": images,
        "perturbation": 0.5 + change / (2 * largest),
        "adversarial": adversarials,
    }
    figure = Figure(figsize=(1.15 * len(table) + 1.0, 4.2))
    axes = figure.subplots(len(rows), len(table), squeeze=False, gridspec_kw={"wspace": 0.08, "hspace": 0.05})
    for line, (name, shown) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, _pixels(shown), strict=True):
            axis.imshow(np.asarray(grid(image[None], 1, scale=1)), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=8)
    for axis, row in zip(axes[0], table.itertuples(), strict=True):
        label, predicted = (shorten(str(each), WIDTH, placeholder="…") for each in (row.label, row.predicted_stored))
        axis.set_title(f"{label}\n→ {predicted}\n{row.confidence_stored:.3f}, {row.attack}", fontsize=6.5)
    figure.suptitle(title, fontsize=10, y=1.04)
    save_figure(figure, path)


def _pixels(images: torch.Tensor) -> np.ndarray:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _short(model: object) -> str:
    return str(model).replace("classifier/", "")
