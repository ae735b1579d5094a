"""Colour jitter: the heuristic augmentation of histopathology, where stains and scanners change colours."""

import torch

from ops.train.augmentation.colour import brightness, contrast, saturation, turn_hue
from ops.train.augmentation.config import Colour
from ops.train.augmentation.draws import symmetric


def colour_jitter(x: torch.Tensor, config: Colour, rng: torch.Generator) -> torch.Tensor:
    """Return images (N, 3, H, W) float32 in [0, 1], each with its own brightness, contrast, saturation and hue.

    In this order, for all images: torchvision, whose factors these are, draws an order for each call. Nothing is drawn
    for strengths of 0.
    """
    factors = ((config.brightness, brightness), (config.contrast, contrast), (config.saturation, saturation))
    for strength, change in factors:
        if strength:
            x = change(x, 1 + symmetric(len(x), strength, rng).to(x.device))
    if config.hue:
        x = turn_hue(x, symmetric(len(x), config.hue, rng).to(x.device))
    return x
