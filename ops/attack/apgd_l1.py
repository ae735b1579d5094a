"""Auto-PGD for L1 (Croce and Hein 2021): sparse steps whose sparsity follows the best point."""

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import nn

from ops.attack.objectives import Objective, evaluate_objective
from ops.attack.pgd import Found
from ops.attack.projections import ascent_direction, per_image, project
from ops.attack.threat import Threat

RADII = ((3.0, 0.3), (2.0, 0.3))
"""Multiples of eps, and the share of the steps, before the rest of the steps is at eps itself (AutoAttack, L1)."""

REVIEW_SHARE = 0.04
"""Sparsity and step size are reviewed after every 4 % of the steps."""
FIRST_SHARE = 0.2
"""Share of the pixel values that a step moves before the first review."""
FEWER = 1.5
"""A step moves the number of pixel values that the best point has moved, divided by this."""
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
) -> Found:
    """Return what `sparse_apgd` finds from the best points of larger balls: 3 eps, 2 eps, eps (AutoAttack, L1).

    30 % of the steps are for each of the larger radii. What is misclassified there does not count and ends nothing: the
    point of the largest objective, projected, is where the next radius starts.
    """
    left = steps
    for multiple, share in RADII:
        wide = threat.model_copy(update={"eps": multiple * threat.eps})
        count = min(math.ceil(share * steps), left)
        begin = project(start, images, wide)
        start = sparse_apgd(model, images, labels, wide, objective, count, begin, stop=False).images
        left -= count
    return sparse_apgd(model, images, labels, threat, objective, left, project(start, images, threat))


@dataclass
class _Search:
    """The examples that still stand, with all that the next step needs of them; every field is (M,) or (M, ...)."""

    places: torch.Tensor
    centre: torch.Tensor
    labels: torch.Tensor
    x: torch.Tensor
    gradient: torch.Tensor
    best: torch.Tensor
    best_value: torch.Tensor
    best_gradient: torch.Tensor
    size: torch.Tensor
    share: torch.Tensor
    moved: torch.Tensor
    """How many pixel values the best point moved at the last review."""

    def only(self, kept: torch.Tensor) -> Self:
        """Return the search for the examples in the mask `kept` (M,) bool."""
        return replace(self, **{field.name: getattr(self, field.name)[kept] for field in fields(self)})

    def step(self, threat: Threat) -> None:
        """Take a projected step."""
        ahead = ascent_direction(self.gradient, threat, self.x, self.share)
        self.x = project(self.x + per_image(self.size, self.x) * ahead, self.centre, threat)

    def record(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Note value (M,) and gradient (M, ...) at the new iterate, and the iterate if it is the best so far."""
        self.gradient = gradient
        better = value > self.best_value
        self.best_value = torch.where(better, value, self.best_value)
        self.best = torch.where(per_image(better, self.x), self.x, self.best)
        self.best_gradient = torch.where(per_image(better, self.x), gradient, self.best_gradient)

    def review(self, eps: float) -> None:
        """Adapt sparsity and step size to the best point, and start again from it where it has become sparser."""
        moved = ((self.best - self.centre).abs() > DUST).flatten(1).sum(dim=1).float()
        sparser = moved < SPARSER * self.moved
        self.share = (moved / FEWER).floor() / self.x[0].numel()
        self.size = torch.where(sparser, eps, (self.size / SHRINK).clamp_min(eps / SMALLEST))
        back = per_image(sparser, self.x)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.moved = moved


def sparse_apgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    objective: Objective,
    steps: int,
    start: torch.Tensor,
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
    count, device = len(images), images.device
    value, gradient, wrong = evaluate_objective(model, start, labels, objective)
    wrong = wrong & stop
    found = Found(start.clone(), value.clone(), wrong.clone())
    state = _Search(
        places=torch.arange(count, device=device),
        centre=images,
        labels=labels,
        x=start,
        gradient=gradient,
        best=start,
        best_value=value,
        best_gradient=gradient,
        size=torch.full((count,), threat.eps, device=device),
        share=torch.full((count,), FIRST_SHARE, device=device),
        moved=torch.full((count,), float(images[0].numel() if count else 1), device=device),
    )
    period = max(int(REVIEW_SHARE * steps), 1)
    for step in range(1, steps + 1):
        if wrong.any():
            state, objective = state.only(~wrong), objective.only(~wrong)
        if not len(state.places):
            break
        state.step(threat)
        value, gradient, wrong = evaluate_objective(model, state.x, state.labels, objective)
        wrong = wrong & stop
        state.record(value, gradient)
        places = state.places[wrong]
        found.images[places], found.fooled[places] = state.x[wrong], True
        if step % period == 0:
            state.review(threat.eps)
    standing = ~found.fooled[state.places]
    found.images[state.places[standing]] = state.best[standing]
    found.value[state.places] = state.best_value
    return found
