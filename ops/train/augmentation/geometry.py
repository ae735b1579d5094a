"""Random crops and mirror images: the base augmentation of all robustness papers (section 1.2 of the recipe)."""

from typing import Literal

import torch
import torch.nn.functional as F


def random_crop(x: torch.Tensor, margin: int, padding: Literal["zeros", "edge"], rng: torch.Generator) -> torch.Tensor:
    """Return images (N, C, H, W) padded by `margin` pixels on each side and cropped at random to their old size.

    Each image has its own corner, uniform over the (2 margin + 1)^2 possible ones. All windows of all images are a
    view (`unfold`) in which one index per image chooses; an index per pixel costs four times as much.
    """
    count, _, height, width = x.shape
    padded = F.pad(x, [margin] * 4, mode="constant" if padding == "zeros" else "replicate")
    top, left = torch.randint(0, 2 * margin + 1, (2, count), generator=rng).to(x.device)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2 margin + 1, 2 margin + 1, H, W)
    return windows[torch.arange(count, device=x.device), :, top, left]


def mirror(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return images (N, C, H, W), each mirrored left to right with probability 1/2."""
    mirrored = (torch.rand(x.shape[0], generator=rng) < 0.5).to(x.device)
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)
