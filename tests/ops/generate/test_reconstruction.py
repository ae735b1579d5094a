"""Figures of reconstructions against numpy, with codecs whose errors are known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from ops.data.loading import open_images
from ops.generate.reconstruction import CAP, draw_reconstructions, reconstruction_quality, spread
from ops.models.build import build_classifier
from ops.models.config import Architecture

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Darker:
    """Gives back images with their red channel scaled."""

    factor: float
    latent: tuple[int, int, int] = (3, 32, 32)
    identity: str = "darker"

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 - 1

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return (z + 1) / 2 * torch.tensor([self.factor, 1, 1]).view(3, 1, 1)


@pytest.fixture
def images(shards, tmp_path):
    return open_images(shards, "validation", tmp_path)


def psnr(x: np.ndarray, factor: float) -> float:
    """Return the PSNR (dB) of images (N, H, W, 3) uint8 whose red is scaled and rounded, computed on bytes."""
    x = x.astype(np.float64)
    y = x.copy()
    y[..., 0] = np.round(np.float32(factor) * x[..., 0])
    return float(10 * np.log10(255**2 / ((x - y) ** 2).mean()))


def test_figures_and_groups_are_those_of_numpy(images):
    """`tone` decides how red a picture is: its groups suffer unequally."""
    found = reconstruction_quality(Darker(0.8), [], images, "tone", CPU, batch=7)
    assert found.figures["validation PSNR (dB)"] == pytest.approx(psnr(images.images, 0.8), abs=2e-3)
    tones = images.table["attribute:tone"].to_numpy()
    expected = {tone: psnr(images.images[tones == tone], 0.8) for tone in ("0", "1")}
    assert {row["group"]: row["PSNR (dB)"] for row in found.groups} == pytest.approx(expected, abs=2e-3)
    assert [row["images"] for row in found.groups] == [(tones == "0").sum(), (tones == "1").sum()]
    gap = abs(expected["0"] - expected["1"])
    assert gap > 0.4
    assert found.figures["PSNR gap over tone (dB)"] == pytest.approx(gap, abs=4e-3)
    assert "validation perceptual distance" not in found.figures


def test_small_groups_are_shown_but_make_no_gap(images):
    few = images.subset([i for i, tone in enumerate(images.table["attribute:tone"]) if tone == "0"] + [2, 3])
    few.table.loc[len(few) - 1, "attribute:tone"] = "1"
    found = reconstruction_quality(Darker(0.8), [], few, "tone", CPU)
    assert len(found.groups) == 2
    assert "PSNR gap over tone (dB)" not in found.figures


def test_data_without_the_attribute_is_grouped_by_label(images):
    assert [row["group"] for row in reconstruction_quality(Darker(0.8), [], images, "label", CPU).groups] == [
        "bar",
        "disc",
    ]


def test_what_comes_back_whole_is_capped_and_worse_is_worse(images):
    judge = build_classifier(Architecture(widths=[8, 16], blocks=[1, 1]), 2, [0.5] * 3, [0.25] * 3).eval()
    whole, near, far = (reconstruction_quality(Darker(f), [judge], images, "tone", CPU).figures for f in (1, 0.9, 0.5))
    assert whole["validation PSNR (dB)"] == CAP
    assert whole["validation perceptual distance"] == 0
    assert whole["validation SSIM"] == 1
    assert whole["PSNR gap over tone (dB)"] == 0
    assert near["validation PSNR (dB)"] > far["validation PSNR (dB)"]
    assert near["validation SSIM"] > far["validation SSIM"]
    assert 0 < near["validation perceptual distance"] < far["validation perceptual distance"]


def test_the_perceptual_figure_is_the_mean_over_judges_and_images(images):
    architecture = Architecture(widths=[8, 16], blocks=[1, 1])
    judges = [build_classifier(architecture, 2, [0.5] * 3, [0.25] * 3, seed).eval() for seed in (0, 1)]
    name = "validation perceptual distance"
    alone = [reconstruction_quality(Darker(0.5), [j], images, "tone", CPU, batch=5).figures[name] for j in judges]
    both = reconstruction_quality(Darker(0.5), judges, images, "tone", CPU).figures[name]
    assert alone[0] != alone[1]
    assert both == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_a_limit_takes_images_from_the_whole_set(images):
    assert spread(100, 5).tolist() == [0, 24, 49, 74, 99]
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert sum(row["images"] for row in reconstruction_quality(Darker(1), [], images, "tone", CPU, limit=9).groups) == 9


def test_the_picture_shows_originals_above_reconstructions(images, tmp_path):
    draw_reconstructions(Darker(0.0), images, CPU, tmp_path / "a.png", "title")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    rows = np.flatnonzero((picture[..., 1] - picture[..., 0] > 200).any(axis=1))  # white backgrounds without their red
    assert len(rows) > 20
    assert rows.min() > 0.4 * len(picture)
