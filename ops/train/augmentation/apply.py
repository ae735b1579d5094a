"""All that happens to a batch of training images, in its order: crop, flip, geometry, colour, policy, Cutout, mixing.

Mixing comes last, so that every image of a composition has been changed on its own and targets are mixed once; Cutout
comes after the policy, so that its square has the colour it is given.
"""

import torch

from ops.errors import AmalgamError
from ops.train.augmentation.boxes import cutout
from ops.train.augmentation.config import Augmentation
from ops.train.augmentation.geometry import mirror, random_crop, random_warp
from ops.train.augmentation.jitter import colour_jitter
from ops.train.augmentation.mixing import mix
from ops.train.augmentation.policy import apply_policy


def augment(
    x: torch.Tensor, targets: torch.Tensor, config: Augmentation, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return changed images and targets of the same shapes, dtypes, memory format and device.

    `x` (N, 3, H, W) float32 in [0, 1], `targets` (N, K) float32 with rows that sum to 1, `rng` on the CPU: the result
    follows from its state alone, whatever the device. No loop over images; the arguments are not changed. Raises
    AmalgamError if a margin or window of `config` does not suit the size of the images.
    """
    _check(config, min(x.shape[2:]))
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    x = x.contiguous()  # masks broadcast over channels: with the channels innermost all steps take twice as long
    if config.crop:
        x = random_crop(x, config.crop, config.padding, rng)
    if config.flip:
        x = mirror(x, rng)
    x = random_warp(x, config.geometry, config.padding, rng)
    x = colour_jitter(x, config.colour, rng)
    x = apply_policy(x, config.policy, config.fill, rng)
    if config.cutout:
        x = cutout(x, config.cutout, config.fill, rng)
    x, targets = mix(x, targets, config.mixing, rng)
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format), targets


def _check(config: Augmentation, side: int) -> None:
    window = config.mixing.window if config.mixing.method == "cutmix" and config.mixing.size == "window" else 0
    for key, pixels in (("crop", config.crop), ("cutout", config.cutout), ("mixing.window", window)):
        if pixels > side:
            raise AmalgamError(
                f"augmentation.{key} is {pixels} pixels, but the images have {side}", f"set {key} to {side} at most"
            )
