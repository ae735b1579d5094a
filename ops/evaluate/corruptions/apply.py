"""Corrupt a batch of images by the name of the corruption.

    corrupted = corrupt(images, "fog", severity=3, seeds=np.arange(len(images)), table="cifar")

Byte for byte the same for the same seeds with the same versions of numpy, scipy and PIL, whatever the batch.
"""

from collections.abc import Callable

import numpy as np

from ops.errors import AmalgamError
from ops.evaluate.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from ops.evaluate.corruptions.digital import brightness, contrast, jpeg_compression, pixelate, saturate
from ops.evaluate.corruptions.draws import make_generators, to_bytes, to_unit
from ops.evaluate.corruptions.elastic import elastic_transform
from ops.evaluate.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from ops.evaluate.corruptions.spatter import spatter
from ops.evaluate.corruptions.tables import Table, parameters
from ops.evaluate.corruptions.weather import fog, frost, snow

SMALLEST = 16
"""Pixels that each side needs; below, the published lengths are larger than the picture."""

PIXELS = 2**17
"""Pixels that are worked on at once: larger batches go in pieces, for memory and caches (results stay the same)."""

_RANDOM: dict[str, Callable[..., np.ndarray]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "elastic_transform": elastic_transform,
    "speckle_noise": speckle_noise,
    "spatter": spatter,
}

_FIXED: dict[str, Callable[..., np.ndarray]] = {
    "defocus_blur": defocus_blur,
    "zoom_blur": zoom_blur,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "gaussian_blur": gaussian_blur,
    "saturate": saturate,
}


def corrupt(images: np.ndarray, name: str, severity: int, seeds: np.ndarray, table: Table = "cifar") -> np.ndarray:
    """Return the images with one corruption at one severity.

    Args:
        images: (N, H, W, 3) uint8, each side at least 16 pixels; N may be 0. Left as they are.
        name: one of `tables.CORRUPTIONS` or `tables.EXTRA`.
        severity: 1 (mild) to 5.
        seeds: (N,) int64, one for each image: its randomness depends on its seed, `name` and `severity` and on nothing
            else, least of all on the other images.
        table: whose parameters: `cifar`, published for 32 x 32 images, or `imagenet`, published for 224 x 224. Lengths
            are pixels at any size.

    Returns:
        (N, H, W, 3) uint8. Values are truncated as in the published files, not rounded.

    Raises:
        AmalgamError: an unknown name, severity or table, or images or seeds of another shape or type.

    Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations"
    (ICLR 2019); parameters and algorithms from hendrycks/robustness. Deviations are named where they are made.
    """
    settings = parameters(name, severity, table)
    _check(images, seeds)
    piece = max(1, PIXELS // (images.shape[1] * images.shape[2]))
    out = np.empty_like(images)
    for start in range(0, len(images), piece):
        part = slice(start, start + piece)
        values = to_unit(images[part])
        if name in _FIXED:
            corrupted = _FIXED[name](values, *settings)
        else:
            corrupted = _RANDOM[name](values, make_generators(seeds[part], name, severity), *settings)
        out[part] = to_bytes(corrupted)
    return out


def _check(images: np.ndarray, seeds: np.ndarray) -> None:
    """Raise AmalgamError unless images and seeds are what `corrupt` takes."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise AmalgamError(
            f"images to corrupt have shape {images.shape} and type {images.dtype}", "pass (N, H, W, 3) uint8"
        )
    if min(images.shape[1:3]) < SMALLEST:
        raise AmalgamError(
            f"images to corrupt are {images.shape[1]} x {images.shape[2]} pixels",
            f"resize them to at least {SMALLEST} x {SMALLEST}",
        )
    if seeds.shape != (len(images),) or not np.issubdtype(seeds.dtype, np.integer):
        raise AmalgamError(
            f"seeds of {len(images)} images have shape {seeds.shape} and type {seeds.dtype}",
            "pass one whole number for each image",
        )
