"""FAB (Croce and Hein 2020): the nearest point across a decision boundary, by linearisation; and towards each class."""

import torch
from torch import nn

from ops.attack.objectives import rank_wrong_classes, targeted_margin
from ops.attack.pgd import restart_seeds
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
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1] that are misclassified.

    Each step goes to the closest of the linearised boundaries to all other classes, which takes as many gradients as
    there are classes. An example for which no misclassified point of the ball is found comes back as it is. The first
    attempt starts at the image, each of the other `restarts` at a random point half as far away as the ball's border,
    which follows from the example's own seed (N,) int64. No decision looks at another example of the batch. What is spent
    on an example is added to `passes` (N,) int64, if that is given: in each step two forward passes and a backward pass for
    each class.
    """
    spent = torch.zeros_like(labels) if passes is None else passes
    found, todo = images.clone(), torch.arange(len(images), device=images.device)
    for number in range(restarts):
        if not len(todo):
            break
        begin = _start(images, threat, example_seeds, todo, number)
        todo = _search(model, found, todo, images, labels, None, begin, threat, steps, spent)
    return found


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
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return what `fab` does, where steps go to the boundary to one class (FAB-T of AutoAttack).

    The `targets` wrong classes that the model finds most likely on the clean image take turns (at most: all of them). A
    step takes two forward passes and a backward pass.
    """
    spent = torch.zeros_like(labels) if passes is None else passes
    with torch.no_grad():
        ranking = rank_wrong_classes(model(images), labels)
    spent += 1
    found, todo = images.clone(), torch.arange(len(images), device=images.device)
    for number in range(min(targets, ranking.shape[1]) * restarts):
        if not len(todo):
            break
        rank, attempt = divmod(number, restarts)
        begin = _start(images, threat, example_seeds, todo, attempt)
        todo = _search(model, found, todo, images, labels, ranking[:, rank], begin, threat, steps, spent)
    return found


def _start(
    images: torch.Tensor, threat: Threat, example_seeds: torch.Tensor, places: torch.Tensor, number: int
) -> torch.Tensor:
    """Return where attempt `number` on the examples at `places` (M,) starts."""
    if number == 0:
        return images[places]
    half = threat.model_copy(update={"eps": threat.eps / 2})
    return random_start(images[places], half, restart_seeds(example_seeds, places, number))


def _search(
    model: nn.Module,
    found: torch.Tensor,
    places: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    x: torch.Tensor,
    threat: Threat,
    steps: int,
    spent: torch.Tensor,
) -> torch.Tensor:
    """Search from `x` (M, ...) for the examples at `places` (M,); put what is in the ball into `found` (N, ...).

    Adds the passes of each example to `spent` (N,) int64. Returns the places of those that still stand. The paper keeps
    the closest misclassified point; in a ball of given size the first one that is inside decides the same, and its
    example is done. So is one that a step left where it was, as behind a quantised input, which has no gradient: all further
    steps would find the same.
    """
    centre, y = images[places], labels[places]
    resting = []
    classes = None if targets is None else targets[places]
    with frozen_parameters(model):
        for _ in range(steps):
            if not len(places):
                break
            gap, normal = _towards(model, x, y, classes) if classes is not None else _nearest(model, x, y, threat.norm)
            before, x = x, _step(x, centre, gap, normal, threat)
            with torch.no_grad():
                logits = model(x)
            wrong = logits.argmax(dim=1) != y
            spent[places] += 3 if classes is not None else 2 + logits.shape[1]
            inside = wrong & (norm_of(x - centre, threat) <= threat.eps)
            found[places[inside]] = x[inside]
            rests = ~wrong & (x == before).flatten(1).all(dim=1)
            x = torch.where(per_image(wrong, x), centre + BETA * (x - centre), x)
            if (inside | rests).any():
                resting.append(places[rests])
                kept = ~(inside | rests)
                places, x, centre, y = places[kept], x[kept], centre[kept], y[kept]
                classes = None if classes is None else classes[kept]
    return torch.cat([*resting, places]).sort().values


@torch.no_grad()
def _step(
    x: torch.Tensor, centre: torch.Tensor, gap: torch.Tensor, normal: torch.Tensor, threat: Threat
) -> torch.Tensor:
    """Return the next iterate (N, ...), where `gap` (N,) is z_t - z_y at `x` and `normal` (N, ...) its gradient.

    Algorithm 1 of the paper: iterate and image are both projected on the plane where the linearised gap is 0, and the new
    iterate lies between the two, the closer to the first the closer that one is to the iterate.
    """
    here = move_to_plane(x, normal, -gap, threat.norm)
    there = move_to_plane(centre, normal, (normal * (x - centre)).flatten(1).sum(dim=1) - gap, threat.norm)
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
