"""Square Attack (Andriushchenko et al. 2020): random search with squares, without gradients."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import nn

from ops.attack.objectives import margin
from ops.attack.projections import norm_of, per_image, project
from ops.attack.square_patches import CHUNK, Draws, chequerboard, corners, side_of_square, signs, squares, twin_peaks
from ops.attack.threat import Threat
from ops.models.windows import Windows, remember

TINY = 1e-12


class _Square(NamedTuple):
    """Where an image of the batch has another square: its corners (M,) and its side, in pixels."""

    top: torch.Tensor
    left: torch.Tensor
    side: int


@torch.no_grad()
def square(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    queries: int = 5000,
    pace: float = 1,
    example_seeds: torch.Tensor,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    The loss is the margin max_k z_k - z_y; each query changes a square, and the change stays if the margin grows. For
    each example the first misclassified image, which ends its search, else the one of the largest margin. The share of
    the image that a square covers falls from 0.8 as in AutoAttack, where each query counts for `pace` of its own.

    As in the paper, and unlike the public code, which paints one square for the whole batch, every example has its own
    squares; they follow from its seed (N,) int64, so that its result does not depend on the batch. In L-inf, layers that
    a square does not reach are not computed again, for networks where `ops.models.windows` can tell. The number of passes,
    one before the first query and one for each, is added to `passes` (N,) int64, if that is given.
    """
    draws = Draws(example_seeds, images.device)
    begin = _first(draws, images, threat)
    logits = model(begin)
    best, value = begin.clone(), margin(logits, labels)
    found = begin.clone()
    places = torch.arange(len(images), device=images.device)
    centre, y = images, labels
    propose = _propose_square if threat.norm == "linf" else _propose_window
    numbers, spent = torch.empty(0), torch.full_like(labels, 1 + queries)
    known: Windows | None = None
    side = 0
    for query in range(queries):
        done = value > 0
        if query % CHUNK == 0 or done.any():
            found[places[done]], spent[places[done]] = best[done], 1 + query
            left = _without_gaps(~done)
            places, best, value, centre, y = (part[left] for part in (places, best, value, centre, y))
            if not len(places):
                break
            fresh = query % CHUNK == 0
            numbers = draws.take(places.tolist(), CHUNK, 5 + images.shape[1]) if fresh else numbers[left]
            known = known.only(left) if known else None
        proposal, square_at = propose(best, centre, numbers[:, query % CHUNK], int(query * pace), threat)
        if square_at and square_at.side != side:
            side = square_at.side
            known = known or remember(model, best, side)
        with known.changed(*square_at) if known and square_at else nullcontext():
            new = margin(model(proposal), y)
        better = new > value
        if known:
            known.keep(better)
        (at,) = better.nonzero(as_tuple=True)  # few are: no pass over all images
        value[at], best[at] = new[at], proposal[at]
    found[places] = best
    if passes is not None:
        passes += spent
    return found


def _without_gaps(kept: torch.Tensor) -> torch.Tensor:
    """Return the places (M,) of those that are `kept` (N,) bool, the last ones where others are missing: few move."""
    order = torch.arange(int(kept.sum()), device=kept.device)
    order[~kept[: len(order)]] = len(order) + kept[len(order) :].nonzero()[:, 0]
    return order


def _first(draws: Draws, images: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return where the search starts: vertical stripes of +-eps (L-inf), or a chequerboard of patterns (L2, L1)."""
    count, (channels, _, width) = len(images), images.shape[1:]
    if threat.norm == "linf":
        stripes = signs(draws.take(range(count), channels, width))[:, :, None, :]
        return (images + threat.eps * stripes).clamp(0, 1)
    board = chequerboard(draws, count, images.shape[1:], threat.norm)
    if threat.norm == "l2":
        return _stretched(board, images, threat)
    return project(images + board, images, threat)


def _stretched(delta: torch.Tensor, centre: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return the images moved by `delta`, stretched to the length eps, and clipped."""
    return (centre + delta * per_image(threat.eps / (norm_of(delta, threat) + TINY), delta)).clamp(0, 1)


def _propose_square(
    best: torch.Tensor, centre: torch.Tensor, uniform: torch.Tensor, query: int, threat: Threat
) -> tuple[torch.Tensor, _Square]:
    """Return `best` with one square of each image at +-eps, one sign for each channel (algorithm 2), and where it is.

    Adding +-2 eps and clipping to the ball, as the paper writes it, ends there wherever it begins.
    """
    channels, height, width = centre.shape[1:]
    side = side_of_square(query, height, width, "linf")
    square_at = _Square(*corners(uniform[:, :2], height, width, side), side)
    window = _window(*square_at, channels)
    shift = threat.eps * signs(uniform[:, 2 : 2 + channels])[:, :, None, None]
    proposal = best.clone()
    proposal[window] = (centre[window] + shift).clamp_(0, 1)
    return proposal, square_at


def _propose_window(
    best: torch.Tensor, centre: torch.Tensor, uniform: torch.Tensor, query: int, threat: Threat
) -> tuple[torch.Tensor, None]:
    """Return `best` with the perturbation of one window moved into another and bent by the pattern eta (algorithm 3).

    The second window gives up its length to the first, together with what the perturbation has not used yet. The rest of
    the image changes a little, too, by its clipping: there is no square outside of which it is the same.
    """
    channels, height, width = centre.shape[1:]
    order = 2 if threat.norm == "l2" else 1
    side = side_of_square(query, height, width, threat.norm)
    delta = best - centre
    top, left = corners(uniform[:, :2], height, width, side)
    other = squares(*corners(uniform[:, 2:4], height, width, side), side, height, width)
    either = squares(top, left, side, height, width) | other
    window = _window(top, left, side, channels)

    eta = twin_peaks(side, threat.norm).to(centre)
    lying = (uniform[:, 4] < 0.5)[:, None, None, None]
    pattern = torch.where(lying, eta, eta.T) * signs(uniform[:, 5 : 5 + channels])[:, :, None, None]
    old = delta[window]
    new = pattern + old / (_length(old, order) + TINY)
    kept, used = _length(delta * either, order), per_image(norm_of(delta, threat), delta)
    if threat.norm == "l2":
        length = ((threat.eps**2 - used**2).clamp_min(0) / channels + kept**2).sqrt()
    else:
        length = ((threat.eps - used).clamp_min(0) / channels + kept) * channels
    delta = delta.masked_fill(other, 0)
    delta[window] = new / (_length(new, order) + TINY) * length
    moved = _stretched(delta, centre, threat) if threat.norm == "l2" else project(centre + delta, centre, threat)
    return moved, None


def _window(top: torch.Tensor, left: torch.Tensor, side: int, channels: int) -> tuple[torch.Tensor, ...]:
    """Return the index that picks (M, C, side, side) from images (M, C, H, W): the squares with these corners (M,)."""
    span = torch.arange(side, device=top.device)
    rows, columns = (top[:, None] + span)[:, None, :, None], (left[:, None] + span)[:, None, None, :]
    images = torch.arange(len(top), device=top.device)[:, None, None, None]
    return images, torch.arange(channels, device=top.device)[None, :, None, None], rows, columns


def _length(windows: torch.Tensor, order: int) -> torch.Tensor:
    """Return the norm (M, C, 1, 1) of each channel of the windows (M, C, h, w)."""
    return torch.linalg.vector_norm(windows, order, dim=(2, 3), keepdim=True)
