"""No figure rests on numbers that are none: what an attack demands of images and of the network's answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ops.errors import AmalgamError

REMEDY = (
    "mend the network (a root or a division near 0, a logarithm of 0), or train it again with a lower learning rate"
)


class NotNumbersError(AmalgamError):
    """A network's logits or gradients are no numbers."""


@contextmanager
def numbers_only(model: nn.Module) -> Iterator[None]:
    """Raise NotNumbersError where the network gives logits or gradients of its images that are no numbers.

    And AmalgamError where it gives one class only.

    The largest of logits that are NaN is class 0: without this, images of that class would count as robust. A gradient with
    a NaN leads nowhere, and what it does not find would count as robustness, too.
    """

    def look(_: nn.Module, inputs: tuple[Any, ...], logits: torch.Tensor) -> None:
        if logits.shape[1] < 2:
            raise AmalgamError(
                "the network knows a single class, which no attack can change", "name two classes or more"
            )
        if not torch.isfinite(logits).all():
            raise NotNumbersError("under attack the network gives logits that are no numbers (NaN or infinite)", REMEDY)
        if inputs[0].requires_grad:
            inputs[0].register_hook(_look_at_gradient)

    handle = model.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _look_at_gradient(gradient: torch.Tensor) -> None:
    # one sum is cheaper than a look at each number; it may overflow, so that only the look itself counts
    if not torch.isfinite(gradient.sum()) and not torch.isfinite(gradient).all():
        raise NotNumbersError(
            "the network's gradient at its images has entries that are no numbers (NaN or infinite)", REMEDY
        )


def check_pixels(images: torch.Tensor) -> None:
    """Raise AmalgamError for images (N, ...) outside [0, 1]: a ball around them is not the threat that is meant."""
    if len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise AmalgamError(
            f"images to attack reach from {float(images.min()):.3g} to {float(images.max()):.3g}, not from 0 to 1",
            "give pixels divided by 255, and normalise inside the network",
        )
