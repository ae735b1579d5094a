"""Auto-PGD for L1 (Croce and Hein 2021): sparse steps whose sparsity follows the best point."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ops.attack.apgd_search import Search, run_search
from ops.attack.attempts import Attempts, Found
from ops.attack.objectives import Objective
from ops.attack.projections import ascent_direction, per_image, project
from ops.attack.threat import Threat

RADII = ((3.0, 0.3), (2.0, 0.3))
"""Multiples of eps, and the share of the steps, before the rest of the steps is at eps itself (AutoAttack, L1)."""

REVIEW_SHARE = 0.04
"""Sparsity and step size are reviewed after every 4 % of the steps."""
FEWER = 1.5
"""A step moves the number of pixel values that the best point (at first, the start) has moved, divided by this."""
SHRINK = 1.5
"""Divides the step size at a review where the best point has not become sparser."""
SMALLEST = 10.0
"""The step size goes from eps down to eps divided by this."""
DUST = 1e-6
"""Less than this is a rounding error of the projection and no move."""
SPARSER = 0.95
"""The best point has become sparser if it moves fewer than this share of the pixel values it moved before."""


def shrinking_apgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    objective: Objective,
    steps: int,
    start: torch.Tensor,
    rows: Attempts | None = None,
) -> Found:
    """Return what `sparse_apgd` finds from the best points of larger balls: 3 eps, 2 eps, eps (AutoAttack, L1).

    30 % of the steps are for each of the larger radii. What is misclassified there does not count and ends nothing: the
    point of the largest objective, projected, is where the next radius starts. `start` is a point of the largest ball
    (`largest_ball`); for `rows` see `run_search`.
    """
    left = steps
    spent = torch.zeros_like(labels)
    for multiple, share in RADII:
        wide = threat.model_copy(update={"eps": multiple * threat.eps})
        count = min(math.ceil(share * steps), left)
        begin = project(start, images, wide)
        wider = sparse_apgd(model, images, labels, wide, objective, count, begin, rows, stop=False)
        start, left, spent = wider.images, left - count, spent + wider.passes
    found = sparse_apgd(model, images, labels, threat, objective, left, project(start, images, threat), rows)
    found.passes += spent
    return found


def largest_ball(threat: Threat) -> Threat:
    """Return the ball in which a search under this threat starts: for L1 that of the largest radius, else its own."""
    return threat.model_copy(update={"eps": RADII[0][0] * threat.eps}) if threat.norm == "l1" else threat


@dataclass
class _SparseSearch(Search):
    """L1-APGD of Croce and Hein 2021."""

    size: torch.Tensor
    share: torch.Tensor
    """Of the pixel values, how many the next step moves."""
    moved: torch.Tensor
    """How many pixel values the best point moved at the last review."""
    period: int

    def step(self, threat: Threat, number: int) -> None:
        """Take a projected step."""
        ahead = ascent_direction(self.gradient, threat, self.x, self.share)
        self.x = project(self.x + per_image(self.size, self.x) * ahead, self.centre, threat)

    def review(self, threat: Threat, number: int) -> None:
        """Adapt sparsity and step size to the best point, and start again from it where it has become sparser."""
        if number % self.period:
            return
        moved = _moved(self.best, self.centre)
        sparser = moved < SPARSER * self.moved
        self.share = _share(moved, self.x)
        self.size = torch.where(sparser, threat.eps, (self.size / SHRINK).clamp_min(threat.eps / SMALLEST))
        self.return_to_best(sparser)
        self.moved = moved


def _moved(x: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return how many pixel values (N,) differ between `x` and `centre` (N, ...)."""
    return ((x - centre).abs() > DUST).flatten(1).sum(dim=1).float()


def _share(moved: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the share (N,) of the pixel values that the next steps move."""
    return (moved / FEWER).floor() / x[0].numel()


def sparse_apgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    objective: Objective,
    steps: int,
    start: torch.Tensor,
    rows: Attempts | None = None,
    stop: bool = True,
) -> Found:
    """Return what the L1 version of Auto-PGD finds from `start` (N, C, H, W) in the ball around `images` in [0, 1].

    For each example the first misclassified iterate, which ends its search, else the one with the largest objective;
    without `stop` always the latter. Each step adds the signs of the largest entries of the gradient, scaled to the L1
    norm of the step size, and projects exactly on ball and box; there is no momentum. At each review, an example whose
    best point has become sparser starts again from it with a step of eps; for others the step shrinks.

    Deviations from the public code: pixels at the border of the box that the gradient pushes outwards are left out of the
    largest entries, because the projection would undo their share of the step; the number of entries is rounded down and
    rounding errors do not count as moved pixels, because otherwise two pixels never become one and a linear model does
    not meet its worst case.
    """

    def begin(common: dict[str, Any]) -> Search:
        moved = _moved(start, images)
        return _SparseSearch(
            **common,
            size=torch.full_like(common["value"], threat.eps),
            share=_share(moved, start) if len(start) else moved,
            moved=moved,
            period=max(int(REVIEW_SHARE * steps), 1),
        )

    return run_search(model, images, labels, threat, objective, steps, start, begin, stop, rows)
