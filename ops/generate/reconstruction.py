"""How well images come back from the space of the diffusion model: figures, groups and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from ops.data.loading import ImageSet
from ops.data.pictures import labelled_rows
from ops.generate.codec import Codec
from ops.generate.perceptual import perceptual_distance
from ops.models.base import Classifier

CAP = 100.0
"""PSNR in dB of images that come back as they were; infinity is no JSON."""
LEAST = 8
"""Images of a group, below which its PSNR says more about the images than about the group."""


@dataclass(frozen=True)
class Quality:
    """What was measured."""

    figures: dict[str, float]
    groups: list[dict[str, str | float]]
    """`group`, `images` and `PSNR (dB)` of each value of the sensitive attribute."""


@torch.no_grad()
def reconstruction_quality(
    codec: Codec,
    judges: Sequence[Classifier],
    images: ImageSet,
    attribute: str,
    device: torch.device,
    limit: int = 512,
    batch: int = 64,
) -> Quality:
    """Measure reconstructions of at most `limit` images, evenly spread over the set; few are in memory at once.

    PSNR (dB) is that of the mean squared error of all pixels, SSIM (Wang et al. 2004) and the perceptual distance (mean
    over judges, absent without one) are means over images. The gap is the largest PSNR of a value of `attribute` less
    the smallest, of values with at least `LEAST` images. Pixels are compared as 8-bit images would show them.
    """
    chosen = spread(len(images), limit)
    values = _values(images.table, attribute)[chosen]
    total, similarity = _psnr(), StructuralSimilarityIndexMeasure(data_range=1.0)
    groups = {str(value): _psnr() for value in sorted(set(values))}
    distance = 0.0
    for start in range(0, len(chosen), batch):
        part = slice(start, start + batch)
        x = images.batch(chosen[part])
        y = _eight_bits(codec.decode(codec.encode(x.to(device)))).cpu()
        total.update(y, x)
        similarity.update(y, x)
        for value in set(values[part]):
            groups[str(value)].update(y[values[part] == value], x[values[part] == value])
        for judge in judges:
            distance += float(perceptual_distance(judge, x.to(device), y.to(device)).double().sum())
    ssim = similarity.compute()
    assert isinstance(ssim, torch.Tensor)
    figures = {"validation PSNR (dB)": _decibels(total), "validation SSIM": round(float(ssim), 5)}
    if judges:
        figures["validation perceptual distance"] = round(distance / len(chosen) / len(judges), 6)
    counts = pd.Series(values).value_counts()
    rows: list[dict[str, str | float]] = [
        {"group": value, "images": int(counts[value]), "PSNR (dB)": _decibels(metric)}
        for value, metric in groups.items()
    ]
    large = [float(row["PSNR (dB)"]) for row in rows if float(row["images"]) >= LEAST]
    if len(large) > 1:
        figures[f"PSNR gap over {attribute} (dB)"] = round(max(large) - min(large), 4)
    return Quality(figures, rows)


def draw_reconstructions(codec: Codec, images: ImageSet, device: torch.device, path: Path, title: str) -> None:
    """Save a dozen originals above their reconstructions."""
    x = images.batch(spread(len(images), 12))
    rows = {"original": x, "reconstruction": codec.decode(codec.encode(x.to(device))).cpu()}
    pictures = {name: (z * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy() for name, z in rows.items()}
    labelled_rows(pictures, path, title)


def spread(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` indices, evenly spread over `count`."""
    return np.linspace(0, count - 1, min(limit, count)).astype(np.int64)


def _values(table: pd.DataFrame, attribute: str) -> np.ndarray:
    """Return the value of the attribute of each image as text; the label where the data has no such attribute."""
    column = f"attribute:{attribute}"
    return table[column if column in table else "label"].astype(str).to_numpy()


def _psnr() -> PeakSignalNoiseRatio:
    return PeakSignalNoiseRatio(data_range=1.0)


def _decibels(metric: PeakSignalNoiseRatio) -> float:
    return round(min(float(metric.compute()), CAP), 4)


def _eight_bits(y: torch.Tensor) -> torch.Tensor:
    return (y * 255).round() / 255
