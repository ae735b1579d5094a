"""Spatter: drops of water or mud on the lens."""

import numpy as np
from scipy.ndimage import correlate

from ops.evaluate.corruptions.draws import Generators, normal, to_bytes
from ops.evaluate.corruptions.edges import box_mean, canny, distance, equalise
from ops.evaluate.corruptions.resampling import smooth

WATER = np.array([175, 238, 238]) / 255
"""Pale turquoise."""

MUD = np.array([63, 42, 20]) / 255

RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
"""Light from one side of a drop."""


def spatter(
    images: np.ndarray,
    generators: Generators,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: float,
) -> np.ndarray:
    """Return the images with drops on the lens: the part of smoothed noise that is above a threshold.

    As in the original, OpenCV's functions replaced by `edges`, whose distances are exact where OpenCV approximates.
    Where no noise is above the threshold the image stays as it is (the original divides 0 by 0).

    Args:
        images: (N, H, W, 3) float64 in [0, 1].
        generators: one for each image.
        mean: of the noise.
        std: of the noise before it is smoothed.
        sigma: standard deviation of the Gaussian that smooths it, pixels.
        threshold: noise below it is no liquid.
        strength: for water, what is added where it is thickest; for mud, the sigma that softens it, pixels.
        mud: 0 for water, 1 for mud.

    Returns:
        (N, H, W, 3) float64; values may exceed 1. Source: hendrycks/robustness, `make_cifar_c.py`.
    """
    liquid = smooth(mean + std * normal(generators, images.shape[1:3]), sigma)
    liquid = np.where(liquid < threshold, 0, liquid)
    if mud:
        cover = smooth((liquid > threshold).astype(np.float64), strength)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return images * (1 - cover) + MUD * cover
    return images + (strength * _relief(to_bytes(liquid)))[..., None] * WATER


def _relief(liquid: np.ndarray) -> np.ndarray:
    """Return how bright the drops (N, H, W) uint8 shine, in [0, 1]: thick and lit from one side, away from their edges."""
    depth = distance(canny(liquid, 50, 150), most=20)
    depth = equalise(box_mean(depth).astype(np.uint8))
    lit = np.clip(correlate(depth.astype(np.float64), RELIEF[None], mode="mirror"), 0, 255)
    shine = liquid * np.rint(box_mean(lit))
    return shine / np.maximum(shine.max(axis=(1, 2), keepdims=True), 1)
