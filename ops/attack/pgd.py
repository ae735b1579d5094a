"""Projected gradient descent (Madry et al. 2018), with the objectives that training and evaluation use."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ops.attack.projections import ascent_direction, project, random_start
from ops.attack.threat import Threat

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits (N, K) and labels (N,) to the value (N,) that the attack raises."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy (N,) of each example."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return max over wrong classes of z_k minus z_y (N,); positive where the example is misclassified."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


OBJECTIVES: dict[str, Objective] = {"ce": cross_entropy, "margin": margin}


def input_gradient(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the sum of `value` with respect to the images `x` alone (no parameter gradients)."""
    return torch.autograd.grad(value.sum(), x)[0]


def pgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float | None = None,
    loss: str = "ce",
    example_seeds: torch.Tensor,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` and in [0, 1].

    Starts at a random point of the ball, takes `steps` steepest-ascent steps of `step_size` (default 2.5 eps / steps), and
    returns for each example the first iterate that is misclassified, else the one with the largest objective. The
    result of an example depends on its own seed in `example_seeds` (N,) int64, not on the batch it is in.
    """
    objective = OBJECTIVES[loss]
    size = step_size if step_size is not None else 2.5 * threat.eps / steps
    x = random_start(images, threat, example_seeds)
    best, best_value = images.clone(), torch.full((len(images),), -torch.inf, device=images.device)
    fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for step in range(steps + 1):
        x = x.detach().requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            logits = model(x)
            value = objective(logits, labels)
        wrong = logits.argmax(dim=1) != labels
        better = ~fooled & (wrong | (value > best_value))
        best[better] = x.detach()[better]
        best_value = torch.where(better, value.detach(), best_value)
        fooled |= wrong
        if step == steps:
            break
        x = project(x.detach() + size * ascent_direction(input_gradient(value, x), threat), images, threat)
    return best
