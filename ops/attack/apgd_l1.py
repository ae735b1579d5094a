"""Auto-PGD for L1 (Croce and Hein 2021): sparse steps whose sparsity follows the best point."""

import torch
from torch import nn

from ops.attack.objectives import Objective, evaluate_objective
from ops.attack.projections import ascent_direction, per_image, project, random_start
from ops.attack.threat import Threat

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


def sparse_apgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    objective: Objective,
    steps: int,
    example_seeds: torch.Tensor,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the L1 ball around `images` (in [0, 1]) and in [0, 1].

    For each example the last misclassified iterate, else the one with the largest objective. Each step adds the signs
    of the largest entries of the gradient, scaled to the L1 norm of the step size, and projects exactly on ball and box;
    there is no momentum. At each review, an example whose best point has become sparser starts again from it with a step
    of eps; for others the step shrinks.

    Deviations from the public code: pixels at the border of the box that the gradient pushes outwards are left out of the
    largest entries, because the projection would undo their share of the step; the number of entries is rounded down and
    rounding errors do not count as moved pixels, because otherwise two pixels never become one and a linear model does
    not meet its worst case.
    """
    count, device, pixels = len(images), images.device, images[0].numel() if len(images) else 1
    x = random_start(images, threat, example_seeds)
    value, gradient, wrong = evaluate_objective(model, x, labels, objective)
    adversarial, fooled = x.clone(), wrong.clone()
    best, best_value, best_gradient = x.clone(), value.clone(), gradient.clone()
    size = torch.full((count,), threat.eps, device=device)
    share = torch.full((count,), FIRST_SHARE, device=device)
    moved_before = torch.full((count,), float(pixels), device=device)
    period = max(int(REVIEW_SHARE * steps), 1)
    for step in range(1, steps + 1):
        x = project(x + per_image(size, x) * ascent_direction(gradient, threat, x, share), images, threat)
        value, gradient, wrong = evaluate_objective(model, x, labels, objective)
        fooled |= wrong
        adversarial[wrong] = x[wrong]
        better = value > best_value
        best[better], best_gradient[better] = x[better], gradient[better]
        best_value = torch.where(better, value, best_value)
        if step % period == 0:
            moved = ((best - images).abs() > DUST).flatten(1).sum(dim=1).float()
            sparser = moved < SPARSER * moved_before
            share = (moved / FEWER).floor() / pixels
            size = torch.where(sparser, threat.eps, (size / SHRINK).clamp_min(threat.eps / SMALLEST))
            x, gradient = x.clone(), gradient.clone()
            x[sparser], gradient[sparser] = best[sparser], best_gradient[sparser]
            moved_before = moved
    return torch.where(per_image(fooled, x), adversarial, best)
