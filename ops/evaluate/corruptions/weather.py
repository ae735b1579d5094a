"""Weather: snow, frost and fog.

All take images (N, H, W, 3) float64 in [0, 1] with a generator for each, and return the same shape; values may leave
[0, 1] until `to_bytes` clips them. Source: Hendrycks and Dietterich (2019), section 3; hendrycks/robustness,
`make_cifar_c.py` and `make_imagenet_c.py`.
"""

import numpy as np

from ops.evaluate.corruptions.draws import Generators, draw, normal, round_to_bytes, to_bytes, to_unit, uniform
from ops.evaluate.corruptions.plasma import covering, plasma
from ops.evaluate.corruptions.resampling import smooth, streak, zoom_in

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

ICE = np.array([[0.30, 0.58, 0.65], [0.79, 0.81, 0.84], [0.79, 0.81, 0.84], [0.54, 0.60, 0.65], [0.44, 0.48, 0.53]])
"""Mean colours of the five photographs that the original chooses from (two of its files are the same picture)."""

CONTRAST = np.array([0.05, 0.06, 0.06, 0.09, 0.12])
"""Standard deviation within a crop of each, between what it is at full size and at a fifth."""


def snow(
    images: np.ndarray,
    generators: Generators,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    weight: float,
) -> np.ndarray:
    """Return the images whitened, behind flakes that fall and, turned by 180 degrees, fall once more.

    Flakes are the part of normal noise above a threshold, zoomed and moved along a line between -135 and -45 degrees.
    ImageMagick's motion blur is replaced by `streak`, the same line; the layer is cut to bytes before it (truncated) and
    after it (rounded), as in the original.

    Args:
        images: (N, H, W, 3) float64 in [0, 1].
        generators: one for each image.
        mean: of the noise.
        std: of the noise.
        zoom: size of a flake in pixels.
        threshold: noise below it is no snow.
        radius: of the motion blur, pixels.
        sigma: of the motion blur, pixels.
        weight: of the image against its whitened version, max(x, 1.5 grey + 0.5).
    """
    layer = zoom_in(mean + std * normal(generators, (*images.shape[1:3], 1)), zoom)
    layer = to_unit(to_bytes(np.where(layer < threshold, 0, layer)))
    degrees = -135 + 90 * uniform(generators, (1,))[:, 0]
    layer = to_unit(round_to_bytes(streak(layer, radius, sigma, degrees)))
    # added one by one: a matrix product would leave the order of the sum to the library
    grey = (images[..., 0] * LUMA[0] + images[..., 1] * LUMA[1] + images[..., 2] * LUMA[2])[..., None]
    whitened = weight * images + (1 - weight) * np.maximum(images, grey * 1.5 + 0.5)
    return whitened + layer + layer[:, ::-1, ::-1]


def frost(
    images: np.ndarray, generators: Generators, image_weight: float, ice_weight: float, scale: float
) -> np.ndarray:
    """Return image_weight x + ice_weight ice: the image behind a frozen pane.

    The original takes random crops of photographs of ice, whose authors and licences are not stated, so they cannot be
    shipped; `ice` makes a texture instead.
    """
    return image_weight * images + ice_weight * ice(generators, images.shape[1], images.shape[2], scale)


def ice(generators: Generators, height: int, width: int, scale: float) -> np.ndarray:
    """Return textures of frost on glass, (N, height, width, 3) float64 in [0, 1].

    Each takes colour and contrast of one of the five photographs that the original draws from. Its pattern has patches
    (a rough plasma) and crystals: noise drawn out along three directions, each of which prevails where a plasma of its
    own is high. Neighbouring pixels correlate by about 0.8, as they do in the photographs.

    Args:
        generators: one for each texture.
        height: of the texture.
        width: of the texture.
        scale: size of crystals against the photographs' (1 for 224 x 224 images; 0.2 for 32 x 32, as they are shrunk).
    """
    look = draw(generators, lambda g: g.integers(len(ICE), size=1))[:, 0]
    size = covering(height, width)
    pattern = 0.8 * _standardise(plasma(generators, size, 1.3)[:, :height, :width])
    noise = smooth(normal(generators, (height, width, 3)), 0.5, "mirror")
    degrees = 360 * uniform(generators, (3,))
    crystals = np.full(pattern.shape, -np.inf)
    for i in range(3):
        grown = streak(noise[..., i : i + 1], max(2.0, 20 * scale), max(1.0, 8 * scale), degrees[:, i], "mirror")
        region = plasma(generators, size, 1.5)[:, :height, :width]
        crystals = np.maximum(crystals, _standardise(grown[..., 0]) * region + 2 * region)
    pattern = _standardise(pattern + 0.6 * _standardise(crystals))
    return np.clip(ICE[look][:, None, None, :] + (CONTRAST[look][:, None, None] * pattern)[..., None], 0, 1)


def fog(images: np.ndarray, generators: Generators, strength: float, decay: float) -> np.ndarray:
    """Return (x + strength plasma) max(x) / (max(x) + strength), max over the image: clouds that take contrast away.

    The map is the smallest power of two that covers the image: 32 and 256 at the published sizes, as in the original.
    """
    _, height, width, _ = images.shape
    clouds = plasma(generators, covering(height, width), decay)[:, :height, :width, None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return (images + strength * clouds) * (brightest / (brightest + strength))


def _standardise(values: np.ndarray) -> np.ndarray:
    """Return each map of (N, H, W) with mean 0 and standard deviation 1."""
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return (flat / np.sqrt((flat**2).mean(axis=1, keepdims=True))).reshape(values.shape)
