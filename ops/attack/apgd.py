"""Auto-PGD (Croce and Hein 2020, algorithm 1): a step size that halves itself, momentum, restarts from the best point."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ops.attack.apgd_l1 import largest_ball, shrinking_apgd
from ops.attack.apgd_search import Search, run_search
from ops.attack.attempts import Attempts, Found, attempt_in_turn, restart_seeds
from ops.attack.objectives import Objective, objective_of, rank_wrong_classes
from ops.attack.projections import ascent_direction, per_image, project, random_start
from ops.attack.threat import Threat

ALPHA = 0.75
"""Momentum: the weight of the new step against the last."""
RHO = 0.75
"""Halve the step where at most this share of the last steps raised the objective, as in the public code."""


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
    eot: int = 1,
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    For each example the first misclassified iterate, else the one with the largest objective; an example that is
    misclassified is done, and only the others get another of the `restarts`. `loss` is ce, margin or dlr, or
    margin-targeted or dlr-targeted with target classes `targets` (N,) int64. Step size 2 eps at first; at each checkpoint
    it is halved, and the search goes on from the best point, for examples whose objective rose in at most RHO of the
    steps since the last one, or whose step size and best value are what they were then. For L1 see `shrinking_apgd`. An
    example's result depends on its own seed (N,) int64, not on its batch: no decision looks at another example.

    Two deviations from the public code. In L-inf it stretches the random start to the surface of the cube, where in
    thousands of values a uniform one nearly is. And at the first checkpoint it compares the first step with an objective of
    0, here as in the paper with that of the start. As in the public code, after a return to the best point the next step
    has risen if its objective is larger than at the point that was left, not than at the best one.

    `eot` above 1 is for models that draw random numbers: each gradient is the mean over as many passes (expectation over
    transformation, Athalye et al. 2018), no search ends before its last step, and the last misclassified iterate counts.
    Where fewer examples stand than rows fit into a `batch` (if not given: N), several restarts run side by side. What is
    spent on an example (see `Found`) is added to `passes` (N,) int64, if that is given.

    Raises AmalgamError for dlr with fewer than 3 classes and dlr-targeted with fewer than 4.
    """
    objective = objective_of(loss, targets, eot)
    search = shrinking_apgd if threat.norm == "l1" else dense_apgd

    def attempt(rows: Attempts) -> Found:
        x, seeds = images[rows.places], restart_seeds(example_seeds, rows.places, rows.numbers)
        begin = random_start(x, largest_ball(threat), seeds)
        return search(model, x, labels[rows.places], threat, objective.only(rows.places), steps, begin, rows)

    found = Found.nothing(images)
    attempt_in_turn(found, restarts, batch or len(images), attempt)
    if passes is not None:
        passes += found.passes
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
    eot: int = 1,
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return what `apgd` finds towards each of the `targets` most likely wrong classes in turn (APGD-T of AutoAttack).

    Each target has `restarts` attempts. An example that is misclassified is done. One that stands at the end comes back
    where the objective of any target was largest. With fewer classes than targets, all wrong ones take turns. `eot`,
    `batch` and `passes` are those of `apgd`.
    """
    with torch.no_grad():
        logits = model(images)
    ranking = rank_wrong_classes(logits, labels)
    search = shrinking_apgd if threat.norm == "l1" else dense_apgd

    def attempt(rows: Attempts) -> Found:
        x, seeds = images[rows.places], restart_seeds(example_seeds, rows.places, rows.numbers)
        begin = random_start(x, largest_ball(threat), seeds)
        aim = objective_of(loss, ranking[rows.places, rows.numbers // restarts], eot)
        return search(model, x, labels[rows.places], threat, aim, steps, begin, rows)

    found = replace(Found.nothing(images), fooled=logits.argmax(dim=1) != labels, passes=torch.ones_like(labels))
    attempt_in_turn(found, min(targets, ranking.shape[1]) * restarts, batch or len(images), attempt)
    if passes is not None:
        passes += found.passes
    return found.images


@dataclass
class _DenseSearch(Search):
    """Algorithm 1 of Croce and Hein 2020."""

    previous: torch.Tensor
    size: torch.Tensor
    raised: torch.Tensor
    """Steps since the last checkpoint that raised the objective."""
    halved: torch.Tensor
    """Whether the last checkpoint halved the step size."""
    value_at_check: torch.Tensor
    checkpoints: list[int]

    def step(self, threat: Threat, number: int) -> None:
        """Take a projected step, and a part 1 - alpha of the last one."""
        alpha = ALPHA if number > 1 else 1.0
        ahead = per_image(self.size, self.x) * ascent_direction(self.gradient, threat)
        plain = project(self.x + ahead, self.centre, threat)
        moved = self.x + alpha * (plain - self.x) + (1 - alpha) * (self.x - self.previous)
        self.previous, self.x = self.x, project(moved, self.centre, threat)

    def record(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Count the step if it raised the objective."""
        self.raised = self.raised + (value > self.value)
        super().record(value, gradient)

    def review(self, threat: Threat, number: int) -> None:
        """At a checkpoint, halve the step size and go back to the best point where the last steps brought too little."""
        if number not in self.checkpoints:
            return
        period = number - self.checkpoints[self.checkpoints.index(number) - 1]
        oscillates = self.raised <= RHO * period
        stuck = ~self.halved & (self.value_at_check >= self.best_value)
        self.halved = oscillates | stuck
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.return_to_best(self.halved)
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
    rows: Attempts | None = None,
) -> Found:
    """Return what Auto-PGD for L-inf and L2 finds from `start` (N, C, H, W); see `apgd`, and for `rows` `run_search`."""

    def begin(common: dict[str, Any]) -> Search:
        value = common["value"]
        return _DenseSearch(
            **common,
            previous=start,
            size=torch.full_like(value, 2 * threat.eps),
            raised=torch.zeros_like(value),
            halved=torch.ones_like(value, dtype=torch.bool),
            value_at_check=value,
            checkpoints=[0, *checkpoints(steps)],
        )

    return run_search(model, images, labels, threat, objective, steps, start, begin, rows=rows)
