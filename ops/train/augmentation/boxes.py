"""Boxes around random pixels, for Cutout (DeVries & Taylor 2017) and CutMix (Yun et al. 2019)."""

import torch


def random_boxes(sides: torch.Tensor, height: int, width: int, rng: torch.Generator) -> torch.Tensor:
    """Return boxes (M, 4) int64 as top, bottom, left, right (ends exclusive), clipped at the borders of the image.

    `sides` (M, 2) int64 are heights and widths before clipping. Centres are uniform over the pixels. A box has exactly
    its sides away from the borders; the released code takes side // 2 to both sides, and so loses a pixel of odd sides.
    """
    limits = torch.tensor([height, width])
    centre = (torch.rand(len(sides), 2, generator=rng, dtype=torch.float64) * limits).long()
    start = centre - sides // 2
    clipped = torch.stack([start, start + sides], dim=2).clamp_min(0).minimum(limits[None, :, None])
    return clipped.flatten(1)


def inside(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return masks (M, 1, height, width) bool that are true in the boxes (M, 4), on the device of the boxes."""
    top, bottom, left, right = boxes.T[:, :, None]
    rows, columns = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    vertical, horizontal = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)
    return (vertical[:, :, None] & horizontal[:, None, :])[:, None]


def cutout(x: torch.Tensor, window: int, fill: float, rng: torch.Generator) -> torch.Tensor:
    """Return images (N, C, H, W) with a square of `window` pixels around a random pixel of each painted `fill`."""
    height, width = x.shape[2:]
    boxes = random_boxes(torch.full((len(x), 2), window), height, width, rng)
    return x.masked_fill(inside(boxes.to(x.device), height, width), fill)
