"""What Square Attack draws: where it paints, with which signs, and the patterns of its L2 and L1 versions."""

import bisect
import math
from collections.abc import Sequence
from functools import cache

import torch

from ops.attack.threat import Norm

P_INIT = 0.8
"""Share of the image that the first squares cover."""
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which that share is halved, whatever the number of queries (AutoAttack's setting)."""
TILES = 5
"""The first perturbation in L2 and L1 is a chequerboard of this many patterns along the shorter side."""
CHUNK = 250
"""Queries whose numbers are drawn at once."""


class Draws:
    """Uniform numbers in [0, 1) for many queries; each example's own come from its seed alone."""

    def __init__(self, example_seeds: torch.Tensor, device: torch.device) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in example_seeds.tolist()]
        self.device = device

    def take(self, places: Sequence[int], *shape: int) -> torch.Tensor:
        """Return the next numbers (M, *shape) of the examples at `places`."""
        numbers = [torch.rand(shape, generator=self.generators[place]) for place in places]
        return torch.stack(numbers).to(self.device)


def side_of_square(query: int, height: int, width: int, norm: Norm) -> int:
    """Return the side of the square that query number `query` (from 0) paints, in pixels.

    In L2 and L1 squares are odd and at least 3 wide, as long as the image is.
    """
    share = P_INIT / 2 ** bisect.bisect_left(HALVED_AFTER, query)
    side = max(round(math.sqrt(share * height * width)), 1 if norm == "linf" else 3)
    if norm != "linf":
        side += 1 - side % 2
    return min(side, height, width)


def signs(uniform: torch.Tensor) -> torch.Tensor:
    """Return -1 or 1 for each number in [0, 1), with probability 1/2."""
    return torch.where(uniform < 0.5, -1.0, 1.0)


def corners(uniform: torch.Tensor, height: int, width: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and columns (M,) int64 of the upper left corners of squares, from numbers (M, 2) in [0, 1).

    Uniform over all positions inside the image. (The public code never touches the last row and column.)
    """
    room = torch.tensor([height - side + 1, width - side + 1], device=uniform.device)
    top, left = (uniform * room).long().clamp_max(room - 1).unbind(1)
    return top, left


@cache
def twin_peaks(side: int, norm: Norm) -> torch.Tensor:
    """Return the pattern eta (side, side) of unit norm: a hill in the upper half, a hole in the lower.

    Each half is a sum of squares around its centre, of heights 1 / k^2 (L2) or 1 / k^4 (L1), k = 1, 2, ... (section 3.3
    of the paper and, for L1, the public code).
    """
    power, order = (2, 2) if norm == "l2" else (4, 1)

    def hill(height: int, width: int) -> torch.Tensor:
        rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
        distance = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
        heights = 1 / torch.arange(1, max(height // 2, width // 2) + 2).double() ** power
        tails = heights.flip(0).cumsum(0).flip(0)  # all squares of at least this size lie on top of each other
        return tails[distance] / torch.linalg.vector_norm(tails[distance], order)

    halves = torch.cat([hill(side // 2, side), -hill(side - side // 2, side)])
    return (halves / torch.linalg.vector_norm(halves, order)).float()


def chequerboard(draws: Draws, count: int, shape: Sequence[int], norm: Norm) -> torch.Tensor:
    """Return `count` first perturbations (N, C, H, W) for L2 and L1, of no particular length.

    Tiles of the pattern eta, each of them lying or standing, with a sign for each channel.
    """
    channels, height, width = shape
    side = max(min(height, width) // TILES, 2)
    down, across = height // side, width // side
    uniform = draws.take(range(count), down, across, channels + 1)
    eta = twin_peaks(side, norm).to(draws.device)
    lying = (uniform[..., :1, None] < 0.5).unsqueeze(-1)
    tiles = torch.where(lying, eta, eta.T) * signs(uniform[..., 1:])[..., None, None]  # (N, down, across, C, s, s)
    board = tiles.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, down * side, across * side)
    found = torch.zeros(count, channels, height, width, device=draws.device)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    found[:, :, top : top + down * side, left : left + across * side] = board
    return found
