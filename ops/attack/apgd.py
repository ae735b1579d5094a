"""Auto-PGD (Croce and Hein 2020, algorithm 1): a step size that halves itself, momentum, restarts from the best point."""

import torch
from torch import nn

from ops.attack.pgd import OBJECTIVES, input_gradient
from ops.attack.projections import ascent_direction, project, random_start
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
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` and in [0, 1].

    For each example the last misclassified iterate, else the one with the largest objective. Step size 2 eps at first;
    at each checkpoint it is halved, and the search goes on from the best point, for examples whose objective rose in
    fewer than RHO of the steps since the last one, or whose step size and best value are what they were then. An
    example's result depends on its own seed (N,) int64, not on its batch: no decision looks at another example.
    """
    objective = OBJECTIVES[loss]
    count, device = len(images), images.device
    shape = (-1, *[1] * (images.dim() - 1))
    x = random_start(images, threat, example_seeds)
    value, gradient, wrong = _evaluate(model, x, labels, objective)
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
        plain = project(x + size.view(shape) * ascent_direction(gradient, threat), images, threat)
        alpha = ALPHA if step > 1 else 1.0
        moved = project(x + alpha * (plain - x) + (1 - alpha) * (x - previous), images, threat)
        previous, x = x, moved
        before = value
        value, gradient, wrong = _evaluate(model, x, labels, objective)
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
    return torch.where(fooled.view(shape), adversarial, best)


def _evaluate(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, objective):  # type: ignore[no-untyped-def]
    """Return objective (N,), its gradient at `x`, and which examples are misclassified (N,)."""
    x = x.detach().requires_grad_(True)
    logits = model(x)
    value = objective(logits, labels)
    gradient = input_gradient(value, x)
    return value.detach(), gradient, logits.detach().argmax(dim=1) != labels
