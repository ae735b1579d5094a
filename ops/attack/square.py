"""Square Attack (Andriushchenko et al. 2020): random search with squares, without gradients."""

from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import nn

from ops.attack.objectives import margin
from ops.attack.square_patches import CHUNK, Draws
from ops.attack.square_proposals import SQUARES, propose, start
from ops.attack.square_queries import Ahead, Stretch, stretches
from ops.attack.threat import Threat
from ops.models.windows import Windows, remember


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
    squares; they follow from its seed (N,) int64, so that its result does not depend on the batch. In L-inf and L2, layers
    that its squares do not reach are not computed again, for networks where `ops.models.windows` can tell.

    Few changes stay. Where fewer examples stand than rows fit into a `batch` (if not given: N), several queries of each go
    through the network together, as if none but the last would stay; those after one that does are asked again. The number
    of passes, one before the first query and one for each, is added to `passes` (N,) int64, if that is given; what is asked
    again counts once.
    """
    draws, room = Draws(example_seeds, images.device), batch or len(images)
    begin = start(draws, images, threat)
    found, spent = begin.clone(), torch.full_like(labels, 1 + queries)
    value, every = margin(model(begin), labels), torch.arange(len(images), device=images.device)
    standing = _Standing(every, images, labels, begin, value, torch.zeros_like(every), value[:, None])
    known, side, ahead = None, 0, Ahead()
    for stretch in stretches(queries, pace, images.shape[2], images.shape[3], threat.norm):
        if not len(standing.places):
            break
        if stretch.begin % CHUNK == 0:
            standing.numbers = draws.take(standing.places.tolist(), CHUNK, 5 + images.shape[1])
        if threat.norm in SQUARES and stretch.side != side:
            known, side = remember(model, standing.best, stretch.side, room, squares=SQUARES[threat.norm]), stretch.side
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
    uniform = standing.numbers[rows, query % CHUNK]
    proposal, squares = propose(standing.best, standing.centre, rows, uniform, stretch.side, threat)
    with known.changed(*squares) if known and squares else nullcontext():
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
