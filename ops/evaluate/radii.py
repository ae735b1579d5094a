"""How far an attack gets at each radius, from a part of eps to a ball that holds everything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ops.attack.guard import NotNumbersError, numbers_only
from ops.attack.objectives import margin
from ops.attack.pgd import pgd
from ops.attack.threat import Threat
from ops.evaluate.config import HonestyConfig

ROOM = 0.5
"""The radius of the unbounded attack, for each pixel: in L-inf every image can become plain grey."""
SPAN = 4.0
"""A plateau is looked for where the largest radius is at least this many times the smallest."""
LEVEL = 0.01
"""A plateau may fall by this much: in fewer than 100 images by none."""
ABOVE_CONSTANT = 0.1
"""By how much a plateau lies above what the best constant answer gets right, which no attack can lower."""
STUCK = 0.25
"""A plateau looks like robustness where no more than this share of the images comes no nearer to another class."""


@dataclass(frozen=True)
class Reached:
    """What PGD reached at one radius, for each of M images that are right without an attack."""

    survived: torch.Tensor
    """(M,) bool."""
    margin: torch.Tensor
    """(M,): the largest logit of a wrong class less that of the right one."""


def reach(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, threat: Threat, config: HonestyConfig, seeds: torch.Tensor
) -> dict[float, Reached]:
    """Return what PGD reaches from right examples at each multiple of eps, and unbounded; nothing where numbers are none."""
    reached = {}
    for multiple in [*sorted(config.multiples), float("inf")]:
        eps = _everything(threat, x) if multiple == float("inf") else multiple * threat.eps
        ball = threat.model_copy(update={"eps": eps})
        if not len(x):
            nothing = torch.zeros(0, device=x.device)
            reached[multiple] = Reached(nothing.bool(), nothing)
            continue
        try:
            with numbers_only(model):
                found = pgd(model, x, labels, ball, steps=config.steps, loss="margin", example_seeds=seeds)
        except NotNumbersError:
            continue
        logits = outputs_of(model, found)
        reached[multiple] = Reached(are_right(logits, labels), margin(logits, labels))
    return reached


def _everything(threat: Threat, images: torch.Tensor) -> float:
    pixels = images.shape[1:].numel()
    return ROOM * {"linf": 1.0, "l2": pixels**0.5, "l1": float(pixels)}[threat.norm]


def highest_rise(accuracies: Sequence[float]) -> float:
    """Return by how much accuracy rises at most from one radius to a larger one; 0 if it never does."""
    lowest, rise = float("inf"), 0.0
    for accuracy in accuracies:
        rise = max(rise, accuracy - lowest)
        lowest = min(lowest, accuracy)
    return rise


def plateau(reached: Mapping[float, Reached], labels: torch.Tensor) -> float:
    """Return the accuracy (above 0) on a plateau that does not look like robustness; 0 if there is none.

    A plateau is an accuracy that falls by no more than LEVEL from the smallest radius to the largest finite one, which is
    at least SPAN times as large (8 times with the default radii). Two things are no sign:

    - Accuracy is not above what the best constant answer gets right by ABOVE_CONSTANT: the share of the most frequent of
      the `labels` (N,) int64 of all images, which no attack can lower. So are accuracies near 0, where all have fallen.
    - A model is really robust, and eps tiny for it. Then no image falls, but nearly all come nearer to another class in the
      larger ball: with working gradients `margin` grows about in proportion to the radius, with none it falls as often as
      it grows. A plateau is a sign only where more than STUCK of its images come no nearer.
    """
    radii = [radius for radius in reached if radius < float("inf")]
    if not radii or max(radii) < SPAN * min(radii):
        return 0.0
    small, large = reached[min(radii)], reached[max(radii)]
    before, after = (int(each.survived.sum()) / len(labels) for each in (small, large))
    constant = int(labels.bincount().max()) / len(labels)
    if before - after > LEVEL or after < constant + ABOVE_CONSTANT:
        return 0.0
    stuck = (large.margin <= small.margin)[small.survived & large.survived]
    return after if len(stuck) and float(stuck.float().mean()) > STUCK else 0.0


@torch.no_grad()
def outputs_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, K) of images (N, C, H, W)."""
    logits: torch.Tensor = model(x)
    return logits


def are_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return which rows of logits (N, K) are numbers, the largest that of the label (N,)."""
    return logits.isfinite().all(dim=1) & (logits.argmax(dim=1) == labels)
