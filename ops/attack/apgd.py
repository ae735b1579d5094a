"""Auto-PGD (Croce and Hein 2020, algorithm 1): a step size that halves itself, momentum, restarts from the best point."""

import torch
from torch import nn

from ops.attack.apgd_l1 import sparse_apgd
from ops.attack.objectives import evaluate_objective, objective_of
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
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    For each example the last misclassified iterate, else the one with the largest objective. `loss` is ce, margin or
    dlr, or margin-targeted or dlr-targeted with target classes `targets` (N,) int64. Step size 2 eps at first; at each
    checkpoint it is halved, and the search goes on from the best point, for examples whose objective rose in fewer than
    RHO of the steps since the last one, or whose step size and best value are what they were then. For L1 see
    `sparse_apgd`. An example's result depends on its own seed (N,) int64, not on its batch: no decision looks at another
    example.

    Raises AmalgamError for dlr with fewer than 3 classes and dlr-targeted with fewer than 4.
    """
    objective = objective_of(loss, targets)
    if threat.norm == "l1":
        return sparse_apgd(model, images, labels, threat, objective, steps, example_seeds)
    count, device = len(images), images.device
    x = random_start(images, threat, example_seeds)
    value, gradient, wrong = evaluate_objective(model, x, labels, objective)
    adversarial = x.clone()
    fooled = wrong.clone()
    best, best_value, best_gradient = x.clone(), value.clone(), gradient.clone()
    size = torch.full((count,), 2 * threat.eps, device=device)
    previous = x.clone()
    raised = torch.zeros(count, device=device)
    halved_before = torch.ones(count, dtype=torch.bool, device=device)
    value_at_check = best_value.clone()
    reviews = checkpoints(steps)
    last_review = 0
    for step in range(1, steps + 1):
        plain = project(x + per_image(size, x) * ascent_direction(gradient, threat), images, threat)
        alpha = ALPHA if step > 1 else 1.0
        moved = project(x + alpha * (plain - x) + (1 - alpha) * (x - previous), images, threat)
        previous, x = x, moved
        before = value
        value, gradient, wrong = evaluate_objective(model, x, labels, objective)
        fooled |= wrong
        adversarial[wrong] = x[wrong]
        raised += value > before
        better = value > best_value
        best[better], best_gradient[better] = x[better], gradient[better]
        best_value = torch.where(better, value, best_value)
        if step in reviews:
            oscillates = raised <= RHO * (step - last_review)
            stuck = ~halved_before & (value_at_check >= best_value)
            halve = oscillates | stuck
            size = torch.where(halve, size / 2, size)
            x, gradient = x.clone(), gradient.clone()
            x[halve], gradient[halve] = best[halve], best_gradient[halve]
            halved_before, value_at_check = halve, best_value.clone()
            raised.zero_()
            last_review = step
    return torch.where(per_image(fooled, x), adversarial, best)
