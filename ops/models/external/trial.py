"""Try a model from elsewhere on a few images before anything is measured."""

import torch
from torch import nn

from ops.errors import AmalgamError

ALONE = 1e-3
"""Largest difference between normalised logits of an image alone and among others that passes."""


def try_model(model: nn.Module, images: torch.Tensor, name: str) -> list[str]:
    """Return what deserves a look in the outputs for `images` (N, 3, H, W) in [0, 1].

    Raises AmalgamError for a model that stays in training mode, whose logits are no numbers, that changes its input,
    whose answer for one image depends on the others, or that cannot be attacked for want of a gradient.
    """
    before = images.clone()
    logits = _logits(model, images)
    if staying := [key or type(part).__name__ for key, part in model.named_modules() if part.training]:
        raise AmalgamError(
            f"{name} stays in training mode after eval(): {', '.join(staying[:3])}",
            "remove what overrides train() or calls it in forward()",
        )
    if not torch.isfinite(logits).all():
        raise AmalgamError(
            f"{name} gives logits that are no numbers", "check that the weights are whole and that pixels in [0, 1] fit"
        )
    if not torch.equal(images, before):
        raise AmalgamError(f"{name} changes the images it is given", "replace in-place operations on the input")
    notes = []
    if float(_distance(_logits(model, images), logits)) > 0:
        notes.append("it answers the same images differently each time: it draws random numbers")
    elif float(_distance(_logits(model, images[:1]), logits[:1])) > ALONE:
        raise AmalgamError(
            f"what {name} says of an image depends on the other images of the batch",
            "use running statistics in evaluation (BatchNorm with training=False)",
        )
    _check_gradient(model, images, name)
    return notes


@torch.no_grad()
def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the largest distance between rows of normalised logits."""
    return (nn.functional.normalize(a, dim=1) - nn.functional.normalize(b, dim=1)).norm(dim=1).max()


def _check_gradient(model: nn.Module, images: torch.Tensor, name: str) -> None:
    x = images.clone().requires_grad_(True)
    with torch.enable_grad():
        total = model(x).square().sum()
        try:
            (gradient,) = torch.autograd.grad(total, x)
        except RuntimeError as error:
            raise AmalgamError(
                f"{name} gives no gradient with respect to the images: {str(error).splitlines()[0][:200]}",
                "remove no_grad, detach and conversions to numpy from its forward()",
            ) from None
    if not torch.isfinite(gradient).all():
        raise AmalgamError(
            f"{name} has gradients that are no numbers", "attacks would fail on it: correct its forward()"
        )
