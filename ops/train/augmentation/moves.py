"""Moves of AutoAugment and RandAugment (rotation, shear, translation), for batches in which each image has its own."""

import torch

from ops.train.augmentation.draws import take_pixels


def affine(x: torch.Tensor, matrices: torch.Tensor, fill: float) -> torch.Tensor:
    """Return images (n, C, H, W) in which the pixel at (u, v) comes from (a u + b v + c, d u + e v + f) of the old one.

    `matrices` (n, 6) are a ... f, in pixels with (0, 0) the top left corner of the image and pixel centres at halves, as
    in PIL's `Image.transform(AFFINE)`. The nearest pixel is taken, as by AutoAugment; what lies outside is `fill`.
    """
    count, _, height, width = x.shape
    a, b, c, d, e, f = matrices.to(x).T[:, :, None, None]
    v = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + 0.5
    u = torch.arange(width, device=x.device, dtype=x.dtype) + 0.5
    column, row = (a * u + b * v + c).floor().long(), (d * u + e * v + f).floor().long()
    found = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    image = torch.arange(count, device=x.device)[:, None, None]
    moved = take_pixels(x, image, row.clamp(0, height - 1), column.clamp(0, width - 1))
    return torch.where(found[:, None], moved, fill)


def rotate(x: torch.Tensor, degrees: torch.Tensor, fill: float) -> torch.Tensor:
    """Return images (n, C, H, W) turned counter-clockwise by `degrees` (n,) about their middle."""
    angle = torch.deg2rad(degrees.double())
    cos, sin = angle.cos(), angle.sin()
    middle_v, middle_u = x.shape[2] / 2, x.shape[3] / 2
    across, down = middle_u - cos * middle_u + sin * middle_v, middle_v - sin * middle_u - cos * middle_v
    return affine(x, torch.stack([cos, -sin, across, sin, cos, down], dim=1), fill)


def shear_x(x: torch.Tensor, slope: torch.Tensor, fill: float) -> torch.Tensor:
    """Return images (n, C, H, W) whose rows are moved by `slope` (n,) pixels for each pixel below the top edge."""
    return affine(x, _matrices(slope, 1), fill)


def shear_y(x: torch.Tensor, slope: torch.Tensor, fill: float) -> torch.Tensor:
    """Return images (n, C, H, W) whose columns are moved by `slope` (n,) pixels for each pixel off the left edge."""
    return affine(x, _matrices(slope, 3), fill)


def translate_x(x: torch.Tensor, share: torch.Tensor, fill: float) -> torch.Tensor:
    """Return images (n, C, H, W) moved sideways by `share` (n,) of their width, cut to whole pixels."""
    return affine(x, _matrices((share.double() * x.shape[3]).trunc(), 2), fill)


def translate_y(x: torch.Tensor, share: torch.Tensor, fill: float) -> torch.Tensor:
    """Return images (n, C, H, W) moved vertically by `share` (n,) of their height, cut to whole pixels."""
    return affine(x, _matrices((share.double() * x.shape[2]).trunc(), 5), fill)


def _matrices(values: torch.Tensor, entry: int) -> torch.Tensor:
    """Return identity maps (n, 6) float64 with `values` (n,) as one entry."""
    matrices = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64, device=values.device).repeat(len(values), 1)
    matrices[:, entry] = values.double()
    return matrices
