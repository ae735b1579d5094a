"""What Square Attack proposes: where its search starts, and what each query changes, under each norm."""

from typing import NamedTuple

import torch

from ops.attack.projections import norm_of, per_image, project
from ops.attack.square_patches import Draws, chequerboard, corners, signs, twin_peaks
from ops.attack.threat import Threat

TINY = 1e-12
SQUARES = {"linf": 1, "l2": 2}
"""How many squares of an image a proposal changes at most. In L1 the projection changes other pixels, too."""


class Squares(NamedTuple):
    """Where proposals differ from the images that they change: corners (R, K) int64 of K squares, and their side in pixels."""

    top: torch.Tensor
    left: torch.Tensor
    side: int


def start(draws: Draws, images: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return where the search starts: vertical stripes of +-eps (L-inf), or a chequerboard of patterns (L2, L1)."""
    count, (channels, _, width) = len(images), images.shape[1:]
    if threat.norm == "linf":
        stripes = signs(draws.take(range(count), channels, width))[:, :, None, :]
        return (images + threat.eps * stripes).clamp(0, 1)
    board = chequerboard(draws, count, images.shape[1:], threat.norm)
    if threat.norm == "l2":
        return (images + board * per_image(threat.eps / (norm_of(board, threat) + TINY), board)).clamp(0, 1)
    return project(images + board, images, threat)


def propose(
    best: torch.Tensor, centre: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor, side: int, threat: Threat
) -> tuple[torch.Tensor, Squares | None]:
    """Return the images of `best` (M, C, H, W) that `rows` (R,) int64 says, changed by one query each: (R, C, H, W).

    And where they are changed, if not everywhere. Balls are around `centre` (M, C, H, W). `uniform` (R, 5 + C) is what a
    query draws: numbers in [0, 1).
    """
    how = _paint_square if threat.norm == "linf" else _move_length
    return how(best, centre, rows, uniform, side, threat)


def _paint_square(
    best: torch.Tensor, centre: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor, side: int, threat: Threat
) -> tuple[torch.Tensor, Squares]:
    """Change one square of each image to +-eps, one sign for each channel (algorithm 2).

    Adding +-2 eps and clipping to the ball, as the paper writes it, ends there wherever it begins.
    """
    channels, height, width = centre.shape[1:]
    top, left = corners(uniform[:, :2], height, width, side)
    _, *inside = window = _window(top, left, side, channels)
    shift = threat.eps * signs(uniform[:, 2 : 2 + channels])[:, :, None, None]
    proposal = best[rows]
    proposal[window] = (centre[rows[:, None, None, None], *inside] + shift).clamp_(0, 1)
    return proposal, Squares(top[:, None], left[:, None], side)


def _move_length(
    best: torch.Tensor, centre: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor, side: int, threat: Threat
) -> tuple[torch.Tensor, Squares | None]:
    """Move the perturbation of one square into another and bend it by the pattern eta (algorithm 3).

    The second square gives up its length to the first, together with what the perturbation has not used yet. In L2 the whole
    has the length eps then, and stretching it to that and clipping, with which the paper ends, leaves the other pixels as they
    are. In L1 the first square gets more than its share, as in the public code; the projection takes a little from all pixels.
    """
    (channels, height, width), order = centre.shape[1:], 2 if threat.norm == "l2" else 1
    top, left = corners(uniform[:, :2], height, width, side)
    other_top, other_left = corners(uniform[:, 2:4], height, width, side)
    window, other = _window(top, left, side, channels), _window(other_top, other_left, side, channels)
    here, there = ((rows[:, None, None, None], *inside) for _, *inside in (window, other))
    proposal, used = best[rows], per_image(norm_of(best - centre, threat)[rows], best)

    old, given = proposal[window] - centre[here], proposal[other] - centre[there]
    _, _, down, across = other
    above, before = top[:, None, None, None], left[:, None, None, None]
    both = (down >= above) & (down < above + side) & (across >= before) & (across < before + side)
    kept = _length(old, order) ** order + _length(given.masked_fill_(both, 0), order) ** order
    left_over = (threat.eps**order - used**order) / channels
    proposal[other] = centre[there]
    if threat.norm == "l2":
        length = (left_over + kept).clamp_min(0).sqrt()
        proposal[window] = (centre[here] + _bent(old, uniform, threat) * length).clamp_(0, 1)
        return proposal, Squares(torch.stack([top, other_top], 1), torch.stack([left, other_left], 1), side)
    length = (left_over.clamp_min(0) + kept) * channels
    proposal[window] = centre[here] + _bent(old, uniform, threat) * length
    return project(proposal, centre[rows], threat), None


def _bent(old: torch.Tensor, uniform: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return the sum of the perturbation `old` (R, C, side, side) and the pattern eta, all of length 1 in each channel."""
    channels, side, order = old.shape[1], old.shape[2], 2 if threat.norm == "l2" else 1
    eta = twin_peaks(side, threat.norm).to(old)
    lying = (uniform[:, 4] < 0.5)[:, None, None, None]
    pattern = torch.where(lying, eta, eta.T) * signs(uniform[:, 5 : 5 + channels])[:, :, None, None]
    new = pattern + old / (_length(old, order) + TINY)
    return new / (_length(new, order) + TINY)


def _window(top: torch.Tensor, left: torch.Tensor, side: int, channels: int) -> tuple[torch.Tensor, ...]:
    """Return the index that picks (R, C, side, side) from images (R, C, H, W): the squares with these corners (R,)."""
    span = torch.arange(side, device=top.device)
    rows, columns = (top[:, None] + span)[:, None, :, None], (left[:, None] + span)[:, None, None, :]
    images = torch.arange(len(top), device=top.device)[:, None, None, None]
    return images, torch.arange(channels, device=top.device)[None, :, None, None], rows, columns


def _length(windows: torch.Tensor, order: int) -> torch.Tensor:
    """Return the norm (R, C, 1, 1) of each channel of the windows (R, C, h, w)."""
    return torch.linalg.vector_norm(windows, order, dim=(2, 3), keepdim=True)
