"""Random changes of whole batches at once."""

import torch
import torch.nn.functional as F

from ops.train.recipe import Augmentation


def augment(x: torch.Tensor, config: Augmentation, rng: torch.Generator) -> torch.Tensor:
    """Return images (N, C, H, W) padded, cropped at random and half of them mirrored; no loop over images."""
    count, _, height, width = x.shape
    if config.crop:
        mode = "constant" if config.padding == "zeros" else "replicate"
        padded = F.pad(x, [config.crop] * 4, mode=mode)
        top, left = torch.randint(0, 2 * config.crop + 1, (2, count), generator=rng)
        rows = top[:, None, None] + torch.arange(height)[None, :, None]
        columns = left[:, None, None] + torch.arange(width)[None, None, :]
        x = padded[torch.arange(count)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
    if config.flip:
        mirrored = torch.rand(count, generator=rng) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x.contiguous()
