"""Run attacks by their settings, and check what they bring back."""

from typing import Any

import torch
from torch import nn

from ops.attack.apgd import apgd, apgd_targeted
from ops.attack.attacks import Attack
from ops.attack.fab import fab, fab_targeted
from ops.attack.guard import check_pixels, numbers_only
from ops.attack.multitargeted import multitargeted
from ops.attack.pgd import pgd
from ops.attack.projections import norm_of
from ops.attack.square import square
from ops.attack.threat import Threat
from ops.errors import AmalgamError
from ops.models.frozen import frozen_parameters, quick_convolutions
from ops.models.padded import padded_channels


def run_attack(
    model: nn.Module,
    attack: Attack,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    example_seeds: torch.Tensor,
    passes: torch.Tensor | None = None,
    batch: int | None = None,
) -> torch.Tensor:
    """Return the images (N, C, H, W) that `attack` makes of `images`, in the ball around them and in [0, 1].

    `labels` and `example_seeds` are (N,) int64; an example's result does not depend on its batch. The forward and backward
    passes that are spent on each example until it falls are added to `passes` (N,) int64, if that is given; a look at one
    image for the number of classes is not among them. Where fewer examples stand than fit into a `batch` (if not given: N),
    what would follow one another goes through the network side by side, as far as it fits: nothing else changes by that.

    The difference of logits ratio needs 3 classes, 4 where it is targeted. With fewer its numerator, the margin, takes its
    place: steps follow only the direction of the gradient, and the denominator is there for scale.

    Raises AmalgamError for images outside [0, 1], for a network with one class, and for logits or gradients that are no
    numbers.
    """
    check_pixels(images)
    seeded = {"example_seeds": example_seeds, "passes": passes, "batch": batch}
    with frozen_parameters(model), padded_channels(model), quick_convolutions(model), numbers_only(model):
        return _run(model, attack, images, labels, threat, seeded)


def _run(
    model: nn.Module,
    attack: Attack,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    seeded: dict[str, Any],
) -> torch.Tensor:
    """Call the attack of that name."""
    options: dict[str, Any] = {"steps": attack.steps, "restarts": attack.restarts, **seeded}
    targets: dict[str, Any] = {} if attack.targets is None else {"targets": attack.targets}
    ruled: dict[str, Any] = {"rule": attack.rule}
    averaged: dict[str, Any] = {"eot": attack.eot}
    if attack.name == "pgd":
        return pgd(model, images, labels, threat, loss="margin", **options, **ruled)
    if attack.name == "multitargeted":
        return multitargeted(model, images, labels, threat, **options, **targets, **ruled)
    if attack.name == "apgd-ce":
        return apgd(model, images, labels, threat, loss="ce", **options, **averaged)
    if attack.name == "apgd-dlr":
        loss = "dlr" if _classes(model, images) > 2 else "margin"
        return apgd(model, images, labels, threat, loss=loss, **options, **averaged)
    if attack.name == "apgd-t":
        loss = "dlr-targeted" if _classes(model, images) > 3 else "margin-targeted"
        return apgd_targeted(model, images, labels, threat, loss=loss, **options, **targets, **averaged)
    if attack.name == "fab":
        return fab(model, images, labels, threat, **options)
    if attack.name == "fab-t":
        return fab_targeted(model, images, labels, threat, **options, **targets)
    return square(model, images, labels, threat, queries=attack.steps, **seeded)


@torch.no_grad()
def _classes(model: nn.Module, images: torch.Tensor) -> int:
    return model(images[:1]).shape[1]


def verify_adversarial(adversarial: torch.Tensor, images: torch.Tensor, threat: Threat, attack: str) -> None:
    """Raise AmalgamError if a perturbation leaves the ball or an image leaves [0, 1]: no number rests on a bad attack."""
    outside = float(norm_of(adversarial - images, threat).max()) > threat.eps * (1 + 1e-4) + 1e-6
    if outside or not (float(adversarial.min()) >= 0 and float(adversarial.max()) <= 1):
        raise AmalgamError(f"{attack} left the threat model {threat}", "this is a defect of Amalgam: please report it")
