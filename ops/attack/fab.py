"""FAB (Croce and Hein 2020): the nearest point across a decision boundary, by linearisation; and towards each class."""

from dataclasses import replace

import torch
from torch import nn

from ops.attack.attempts import Attempts, Found, attempt_in_turn, restart_seeds
from ops.attack.objectives import rank_wrong_classes, targeted_margin
from ops.attack.planes import move_to_plane
from ops.attack.projections import norm_of, per_image, random_start
from ops.attack.threat import Norm, Threat
from ops.models.frozen import frozen_parameters

ALPHA_MAX = 0.1
"""At most this share of a step leads towards the point of the plane that is closest to the image itself."""
ETA = 1.05
"""Overshoot: steps go a little beyond the linearised boundary."""
BETA = 0.9
"""After a success the search goes on at this share of the way from the image to the point found."""


def fab(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    example_seeds: torch.Tensor,
    restarts: int = 1,
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1] that are misclassified.

    Each step goes to the closest of the linearised boundaries to all other classes, which takes as many gradients as
    there are classes. An example for which no misclassified point of the ball is found comes back as it is. The first
    attempt starts at the image, each of the other `restarts` at a random point half as far away as the ball's border,
    which follows from the example's own seed (N,) int64. No decision looks at another example of the batch. Several
    restarts run at once where so many rows fit into a `batch` (if not given: N). What is spent on an example is added to
    `passes` (N,) int64, if that is given: in each step two forward passes and a backward pass for each class.
    """

    def attempt(rows: Attempts) -> Found:
        x = images[rows.places]
        begin = _start(x, threat, restart_seeds(example_seeds, rows.places, rows.numbers), rows.numbers)
        return _search(model, x, labels[rows.places], None, begin, threat, steps, rows)

    found = Found.nothing(images)
    attempt_in_turn(found, restarts, batch or len(images), attempt)
    if passes is not None:
        passes += found.passes
    return found.images


def fab_targeted(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    example_seeds: torch.Tensor,
    targets: int = 9,
    restarts: int = 1,
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return what `fab` does, where steps go to the boundary to one class (FAB-T of AutoAttack).

    The `targets` wrong classes that the model finds most likely on the clean image take turns (at most: all of them),
    several at once where so many rows fit into a `batch`. A step takes two forward passes and a backward pass.
    """
    with torch.no_grad():
        ranking = rank_wrong_classes(model(images), labels)

    def attempt(rows: Attempts) -> Found:
        x, numbers = images[rows.places], rows.numbers % restarts
        begin = _start(x, threat, restart_seeds(example_seeds, rows.places, numbers), numbers)
        classes = ranking[rows.places, rows.numbers // restarts]
        return _search(model, x, labels[rows.places], classes, begin, threat, steps, rows)

    found = replace(Found.nothing(images), passes=torch.ones_like(labels))
    attempt_in_turn(found, min(targets, ranking.shape[1]) * restarts, batch or len(images), attempt)
    if passes is not None:
        passes += found.passes
    return found.images


def _start(images: torch.Tensor, threat: Threat, seeds: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return where the attempts of these `seeds` and `numbers` (R,) on `images` (R, ...) start; number 0 at its image."""
    again = numbers > 0
    if not again.any():
        return images
    half, x = threat.model_copy(update={"eps": threat.eps / 2}), images.clone()
    x[again] = random_start(images[again], half, seeds[again])
    return x


def _search(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    x: torch.Tensor,
    threat: Threat,
    steps: int,
    attempts: Attempts,
) -> Found:
    """Return what the `attempts` find: for each the first misclassified point in the ball around its image, else the image.

    `images` are (R, ...), `labels` (R,). Attempts start from `x` (R, ...) and go towards `targets` (R,), or the closest
    class. The paper keeps the closest misclassified point; in a ball of given size the first one that is inside decides the
    same, and its example is done. So is an attempt that a step left where it was, as behind a quantised input, which has no
    gradient: all further steps would find the same.
    """
    found, rows = Found.nothing(images), torch.arange(len(images), device=images.device)
    with frozen_parameters(model):
        for _ in range(steps):
            if not len(rows):
                break
            gap, normal = (
                _nearest(model, x, labels, threat.norm) if targets is None else _towards(model, x, labels, targets)
            )
            before, x = x, _step(x, images, gap, normal, threat)
            with torch.no_grad():
                logits = model(x)
            wrong = logits.argmax(dim=1) != labels
            found.passes[rows] += 3 if targets is not None else 2 + logits.shape[1]
            inside = wrong & (norm_of(x - images, threat) <= threat.eps)
            found.images[rows[inside]], found.fooled[rows[inside]] = x[inside], True
            (right,) = (~wrong).nonzero(as_tuple=True)  # few are: most points lie beyond the plane
            rests = torch.zeros_like(wrong)
            rests[right] = (x[right] == before[right]).flatten(1).all(dim=1)
            x = torch.where(per_image(wrong, x), images + BETA * (x - images), x)
            done = attempts.ended(rows, inside) | rests
            if done.any():
                rows, x, images, labels = (part[~done] for part in (rows, x, images, labels))
                targets = None if targets is None else targets[~done]
    return found


@torch.no_grad()
def _step(
    x: torch.Tensor, centre: torch.Tensor, gap: torch.Tensor, normal: torch.Tensor, threat: Threat
) -> torch.Tensor:
    """Return the next iterate (N, ...), where `gap` (N,) is z_t - z_y at `x` and `normal` (N, ...) its gradient.

    Algorithm 1 of the paper: iterate and image are both projected on the plane where the linearised gap is 0, and the new
    iterate lies between the two, the closer to the first the closer that one is to the iterate.
    """
    here = move_to_plane(x, normal, -gap, threat.norm)
    there = move_to_plane(centre, normal, (normal * (x - centre)).sum(dim=list(range(1, x.ndim))) - gap, threat.norm)
    near, far = norm_of(here, threat).clamp_min(1e-8), norm_of(there, threat).clamp_min(1e-8)
    alpha = per_image((near / (near + far)).clamp_max(ALPHA_MAX), x)
    # not (1 - alpha) a + alpha b, which rounds even where both are the same
    return torch.lerp(x + ETA * here, centre + ETA * there, alpha).clamp(0, 1)


def _towards(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z_t - z_y (N,) and its gradient (N, ...)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        gap = targeted_margin(model(x), labels, targets)
        (normal,) = torch.autograd.grad(gap.sum(), x)
    return gap.detach(), normal


def _nearest(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z_k - z_y (N,) and its gradient (N, ...) for the class k whose linearised boundary is closest."""
    x = x.detach().requires_grad_(True)
    dual = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}[norm]
    gap = torch.zeros(len(x), device=x.device)
    normal, shortest = torch.zeros_like(x), torch.full_like(gap, torch.inf)
    with torch.enable_grad():
        logits = model(x)
        classes = logits.shape[1]
        for k in range(classes):
            other = targeted_margin(logits, labels, torch.full_like(labels, k))
            (slope,) = torch.autograd.grad(other.sum(), x, retain_graph=k + 1 < classes)
            steepness = torch.linalg.vector_norm(slope.flatten(1), dual, dim=1)
            distance = (other.detach().abs() / (steepness + 1e-12)).masked_fill(labels == k, torch.inf)
            closer = distance < shortest
            gap, shortest = torch.where(closer, other.detach(), gap), torch.where(closer, distance, shortest)
            normal = torch.where(per_image(closer, x), slope, normal)
    return gap, normal.detach()
