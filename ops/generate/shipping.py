"""Trained networks to hand out: diffusers folders in half precision, half the bytes."""

from pathlib import Path

import torch
from diffusers import ModelMixin

from ops.errors import AmalgamError
from ops.generate.codec import LOCAL


def ship(model: ModelMixin, folder: Path) -> None:
    """Write the weights of `model` to `folder` as float16; `model` stays as it is, equal weights are equal bytes.

    Raises AmalgamError if a weight does not fit into float16 (its size is at most 65504).
    """
    limit = torch.finfo(torch.float16).max
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.abs().max() <= limit:
            raise AmalgamError(
                f"{name} has values beyond {limit:g} and cannot be shipped as float16",
                "train with a lower learning rate",
            )
    architecture = {key: value for key, value in model.config.items() if not key.startswith("_")}  # no paths
    half = type(model)(**architecture)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)


def receive(kind: type[ModelMixin], folder: Path) -> ModelMixin:
    """Return the network of class `kind` in `folder`, float32 whatever it was stored in; AmalgamError if it cannot be read."""
    try:
        return kind.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, RuntimeError) as error:
        raise AmalgamError(
            f"no {kind.__name__} in {folder.name}: {error}", "fetch the shipped weights: dvc pull"
        ) from None
