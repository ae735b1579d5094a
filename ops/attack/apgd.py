"""Auto-PGD (Croce and Hein 2020, algorithm 1): a step size that halves itself, momentum, restarts from the best point."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import nn

from ops.attack.apgd_l1 import shrinking_apgd
from ops.attack.objectives import Objective, evaluate_objective, objective_of, rank_wrong_classes
from ops.attack.pgd import Found, restart_seeds
from ops.attack.projections import ascent_direction, per_image, project, random_start
from ops.attack.threat import Threat

ALPHA = 0.75
"""Momentum: the weight of the new step against the last."""
RHO = 0.75
"""Halve the step where fewer than this share of the last steps raised the objective."""


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which step sizes are reviewed: after 22 % of `steps`, then ever sooner, by 3 % down to 6 %."""
    period, shortest, shrink = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    found, next_check = [], period
    while next_check <= steps:
        found.append(next_check)
        period = max(period - shrink, shortest)
        next_check += period
    return found


def apgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    loss: str = "ce",
    example_seeds: torch.Tensor,
    targets: torch.Tensor | None = None,
    restarts: int = 1,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    For each example the first misclassified iterate, else the one with the largest objective; an example that is
    misclassified is done, and only the others get another of the `restarts`. `loss` is ce, margin or dlr, or
    margin-targeted or dlr-targeted with target classes `targets` (N,) int64. Step size 2 eps at first; at each checkpoint
    it is halved, and the search goes on from the best point, for examples whose objective rose in fewer than RHO of the
    steps since the last one, or whose step size and best value are what they were then. For L1 see `shrinking_apgd`. An
    example's result depends on its own seed (N,) int64, not on its batch: no decision looks at another example.

    Raises AmalgamError for dlr with fewer than 3 classes and dlr-targeted with fewer than 4.
    """
    objective = objective_of(loss, targets)
    search = shrinking_apgd if threat.norm == "l1" else dense_apgd
    found = search(model, images, labels, threat, objective, steps, random_start(images, threat, example_seeds))
    for number in range(1, restarts):
        places = found.standing()
        if not len(places):
            break
        x, seeds = images[places], restart_seeds(example_seeds, places, number)
        aim = objective.only(~found.fooled)
        again = search(model, x, labels[places], threat, aim, steps, random_start(x, threat, seeds))
        found.improve(places, again)
    return found.images


def apgd_targeted(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    loss: str = "dlr-targeted",
    example_seeds: torch.Tensor,
    targets: int = 9,
    restarts: int = 1,
) -> torch.Tensor:
    """Return what `apgd` finds towards each of the `targets` most likely wrong classes in turn (APGD-T of AutoAttack).

    Each target has `restarts` attempts. An example that is misclassified is done. One that stands at the end comes back
    where the objective of any target was largest. With fewer classes than targets, all wrong ones take turns.
    """
    with torch.no_grad():
        logits = model(images)
    ranking = rank_wrong_classes(logits, labels)
    search = shrinking_apgd if threat.norm == "l1" else dense_apgd
    worst = torch.full((len(images),), -torch.inf, device=images.device)
    found = Found(images.clone(), worst, logits.argmax(dim=1) != labels)
    targets = min(targets, ranking.shape[1])
    for number in range(targets * restarts):
        places, rank = found.standing(), number // restarts
        if not len(places):
            break
        x = images[places]
        begin = random_start(x, threat, restart_seeds(example_seeds, places, number))
        aim = objective_of(loss, ranking[places, rank])
        found.improve(places, search(model, x, labels[places], threat, aim, steps, begin))
    return found.images


@dataclass
class _Search:
    """The examples that still stand, with all that the next step needs of them; every field is (M,) or (M, ...)."""

    places: torch.Tensor
    centre: torch.Tensor
    labels: torch.Tensor
    x: torch.Tensor
    previous: torch.Tensor
    gradient: torch.Tensor
    value: torch.Tensor
    best: torch.Tensor
    best_value: torch.Tensor
    best_gradient: torch.Tensor
    size: torch.Tensor
    raised: torch.Tensor
    """Steps since the last checkpoint that raised the objective."""
    halved: torch.Tensor
    """Whether the last checkpoint halved the step size."""
    value_at_check: torch.Tensor

    def only(self, kept: torch.Tensor) -> Self:
        """Return the search for the examples in the mask `kept` (M,) bool."""
        return replace(self, **{field.name: getattr(self, field.name)[kept] for field in fields(self)})

    def step(self, threat: Threat, alpha: float) -> None:
        """Take a projected step and a part 1 - alpha of the last one."""
        ahead = per_image(self.size, self.x) * ascent_direction(self.gradient, threat)
        plain = project(self.x + ahead, self.centre, threat)
        moved = self.x + alpha * (plain - self.x) + (1 - alpha) * (self.x - self.previous)
        self.previous, self.x = self.x, project(moved, self.centre, threat)

    def record(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Note value (M,) and gradient (M, ...) at the new iterate, and the iterate if it is the best so far."""
        self.raised = self.raised + (value > self.value)
        self.value, self.gradient = value, gradient
        better = value > self.best_value
        self.best_value = torch.where(better, value, self.best_value)
        self.best = torch.where(per_image(better, self.x), self.x, self.best)
        self.best_gradient = torch.where(per_image(better, self.x), gradient, self.best_gradient)

    def review(self, period: int) -> None:
        """Halve the step size, and go back to the best point, where `period` steps have brought too little."""
        oscillates = self.raised <= RHO * period
        stuck = ~self.halved & (self.value_at_check >= self.best_value)
        self.halved = oscillates | stuck
        self.size = torch.where(self.halved, self.size / 2, self.size)
        back = per_image(self.halved, self.x)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.value_at_check = self.best_value
        self.raised = torch.zeros_like(self.raised)


def dense_apgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    objective: Objective,
    steps: int,
    start: torch.Tensor,
) -> Found:
    """Return what Auto-PGD for L-inf and L2 finds from `start` (N, C, H, W); see `apgd`."""
    count, device = len(images), images.device
    value, gradient, wrong = evaluate_objective(model, start, labels, objective)
    found = Found(start.clone(), value.clone(), wrong.clone())
    state = _Search(
        places=torch.arange(count, device=device),
        centre=images,
        labels=labels,
        x=start,
        previous=start,
        gradient=gradient,
        value=value,
        best=start,
        best_value=value,
        best_gradient=gradient,
        size=torch.full((count,), 2 * threat.eps, device=device),
        raised=torch.zeros(count, device=device),
        halved=torch.ones(count, dtype=torch.bool, device=device),
        value_at_check=value,
    )
    reviews = [0, *checkpoints(steps)]
    for step in range(1, steps + 1):
        if wrong.any():
            state, objective = state.only(~wrong), objective.only(~wrong)
        if not len(state.places):
            break
        state.step(threat, alpha=ALPHA if step > 1 else 1.0)
        value, gradient, wrong = evaluate_objective(model, state.x, state.labels, objective)
        state.record(value, gradient)
        places = state.places[wrong]
        found.images[places], found.fooled[places] = state.x[wrong], True
        if step in reviews:
            state.review(step - reviews[reviews.index(step) - 1])
    standing = ~found.fooled[state.places]
    found.images[state.places[standing]] = state.best[standing]
    found.value[state.places] = state.best_value
    return found
