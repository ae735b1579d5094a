"""Square Attack (Andriushchenko et al. 2020): random search with squares, without gradients."""

from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from torch import nn

from ops.attack.objectives import margin
from ops.attack.projections import norm_of, per_image, project
from ops.attack.square_patches import CHUNK, Draws, chequerboard, corners, signs, squares, twin_peaks
from ops.attack.square_queries import Ahead, Stretch, stretches
from ops.attack.threat import Threat
from ops.models.windows import Windows, remember

TINY = 1e-12


class _Square(NamedTuple):
    """Where each proposal has another square: its corners (R,) and its side, in pixels."""

    top: torch.Tensor
    left: torch.Tensor
    side: int


@dataclass
class _Standing:
    """The examples that still stand, M of them."""

    places: torch.Tensor
    """(M,) int64: which of the batch they are."""
    centre: torch.Tensor
    labels: torch.Tensor
    best: torch.Tensor
    """(M, C, H, W): the image of the largest margin."""
    value: torch.Tensor
    """(M,): that margin."""
    done: torch.Tensor
    """(M,) int64: the queries so far."""
    numbers: torch.Tensor
    """(M, CHUNK, ...): what the queries draw."""

    def only(self, order: torch.Tensor) -> Self:
        """Return the examples at `order` (K,) int64."""
        return type(self)(*(getattr(self, field.name)[order] for field in fields(self)))


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
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    The loss is the margin max_k z_k - z_y; each query changes a square, and the change stays if the margin grows. For
    each example the first misclassified image, which ends its search, else the one of the largest margin. The share of
    the image that a square covers falls from 0.8 as in AutoAttack, where each query counts for `pace` of its own.

    As in the paper, and unlike the public code, which paints one square for the whole batch, every example has its own
    squares; they follow from its seed (N,) int64, so that its result does not depend on the batch. In L-inf, layers that
    a square does not reach are not computed again, for networks where `ops.models.windows` can tell.

    Few changes stay. Where fewer examples stand than rows fit into a `batch` (if not given: N), several queries of each go
    through the network together, as if none but the last would stay; those after one that does are asked again. The number
    of passes, one before the first query and one for each, is added to `passes` (N,) int64, if that is given; what is asked
    again counts once.
    """
    draws, room = Draws(example_seeds, images.device), batch or len(images)
    begin = _first(draws, images, threat)
    found, spent = begin.clone(), torch.full_like(labels, 1 + queries)
    value, every = margin(model(begin), labels), torch.arange(len(images), device=images.device)
    standing = _Standing(every, images, labels, begin, value, torch.zeros_like(every), value[:, None])
    known, side, ahead = None, 0, Ahead()
    for stretch in stretches(queries, pace, images.shape[2], images.shape[3], threat.norm):
        if not len(standing.places):
            break
        if stretch.begin % CHUNK == 0:
            standing.numbers = draws.take(standing.places.tolist(), CHUNK, 5 + images.shape[1])
        if threat.norm == "linf" and stretch.side != side:
            known, side = remember(model, standing.best, stretch.side, room), stretch.side
        left, rows = 0, every
        while True:
            fell = standing.value > 0
            if fell.any():
                places = standing.places[fell]
                found[places], spent[places] = standing.best[fell], 1 + standing.done[fell]
                order = _without_gaps(~fell)
                standing, known, left = standing.only(order), known and known.only(order), 0
            todo = (standing.done < stretch.end).nonzero()[:, 0]
            if not len(todo):
                break
            if len(todo) != left:
                left, rows = len(todo), todo.repeat(ahead.queries(len(todo), room))
                ahead.forget()
                if known:
                    known.spread(rows)
            ahead.note(*_ask(model, standing, rows, len(rows) // left, stretch, known, threat))
    found[standing.places] = standing.best
    if passes is not None:
        passes += spent
    return found


def _ask(
    model: nn.Module,
    standing: _Standing,
    rows: torch.Tensor,
    together: int,
    stretch: Stretch,
    known: Windows | None,
    threat: Threat,
) -> tuple[int, int]:
    """Ask for so many queries `together` of the examples of `rows` (R,) int64; keep each example's first that is better.

    Returns how many stay, and how many need not be asked again.
    """
    number = torch.arange(together, device=rows.device).repeat_interleave(len(rows) // together)
    query = standing.done[rows] + number
    counts = query < stretch.end
    query = query.clamp_max(stretch.end - 1)
    propose = _propose_square if threat.norm == "linf" else _propose_window
    uniform = standing.numbers[rows, query % CHUNK]
    proposal, square_at = propose(standing.best[rows], standing.centre, rows, uniform, stretch.side, threat)
    with known.changed(*square_at) if known and square_at else nullcontext():
        new = margin(model(proposal), standing.labels[rows])
    better = counts & (new > standing.value[rows])
    first = torch.full_like(standing.done, stretch.end).scatter_reduce_(0, rows[better], query[better], "amin")
    stays = better & (query == first[rows])
    if known:
        known.keep(stays)
    (at,) = stays.nonzero(as_tuple=True)  # few do: no pass over all images
    standing.value[rows[at]], standing.best[rows[at]] = new[at], proposal[at]
    before, standing.done = standing.done, torch.minimum(first + 1, standing.done + together).clamp_max(stretch.end)
    return len(at), int((standing.done - before).sum())


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
    best: torch.Tensor, centre: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor, side: int, threat: Threat
) -> tuple[torch.Tensor, _Square]:
    """Return `best` (R, ...), changed in one square of each image to +-eps, one sign for each channel (algorithm 2), and where.

    The images that the balls are around are those of `centre` (M, ...) that `rows` (R,) int64 says.

    Adding +-2 eps and clipping to the ball, as the paper writes it, ends there wherever it begins.
    """
    channels, height, width = centre.shape[1:]
    square_at = _Square(*corners(uniform[:, :2], height, width, side), side)
    _, *inside = window = _window(*square_at, channels)
    shift = threat.eps * signs(uniform[:, 2 : 2 + channels])[:, :, None, None]
    best[window] = (centre[rows[:, None, None, None], *inside] + shift).clamp_(0, 1)
    return best, square_at


def _propose_window(
    best: torch.Tensor, centre: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor, side: int, threat: Threat
) -> tuple[torch.Tensor, None]:
    """Return `best` (R, ...) with the perturbation of one window moved into another and bent by the pattern eta (algorithm 3).

    The second window gives up its length to the first, together with what the perturbation has not used yet. The rest of
    the image changes a little, too, by its clipping: there is no square outside of which it is the same.
    """
    channels, height, width = centre.shape[1:]
    order = 2 if threat.norm == "l2" else 1
    centre = centre[rows]
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
