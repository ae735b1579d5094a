"""Crops and mirror images, the base augmentation of all robustness papers, and heuristic rotation, scale and shear."""

from typing import Literal

import torch
import torch.nn.functional as F

from ops.train.augmentation.config import Geometry
from ops.train.augmentation.draws import symmetric

Padding = Literal["zeros", "edge"]


def random_crop(x: torch.Tensor, margin: int, padding: Padding, rng: torch.Generator) -> torch.Tensor:
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


def random_warp(x: torch.Tensor, config: Geometry, padding: Padding, rng: torch.Generator) -> torch.Tensor:
    """Return images (N, C, H, W), each turned, scaled and sheared at random; nothing is drawn for what is off."""
    if not (config.rotation or config.scale or config.shear):
        return x
    degrees, change, lean = (
        symmetric(len(x), limit, rng) if limit else torch.zeros(len(x))
        for limit in (config.rotation, config.scale, config.shear)
    )
    return warp(x, degrees, 1 + change, lean, padding)


def warp(
    x: torch.Tensor, degrees: torch.Tensor, scale: torch.Tensor, shear: torch.Tensor, padding: Padding
) -> torch.Tensor:
    """Return images (N, C, H, W) sheared, scaled and then turned about their middle, by bilinear interpolation.

    `degrees` (N,) turn counter-clockwise, `scale` (N,) above 0 enlarges, and `shear` (N,) in degrees moves what is y
    pixels below the middle y tan(shear) pixels to the left. Beyond the image are zeros or its edge.
    """
    turn, lean, size = torch.deg2rad(degrees.double()), torch.deg2rad(shear.double()).tan(), scale.double()
    cos, sin = turn.cos(), turn.sin()
    height, width = x.shape[2:]
    # where the pixel of the result at (u, v) from the middle comes from: turned back, scaled back, sheared back
    rows = [cos + lean * sin, lean * cos - sin, sin, cos]
    a, b, d, e = (entry / size for entry in rows)
    nothing = torch.zeros_like(a)
    ratio = height / width  # affine_grid measures each side from -1 to 1
    matrices = torch.stack([a, b * ratio, nothing, d / ratio, e, nothing], dim=1).view(-1, 2, 3).to(x)
    grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
    mode = "zeros" if padding == "zeros" else "border"
    return F.grid_sample(x, grid, padding_mode=mode, align_corners=False).clamp(0, 1)
