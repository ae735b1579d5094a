"""What training starts from: the network, its card, its optimizer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ops.data.loading import ImageSet
from ops.models.base import Classifier
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, load_weights, weights_digest
from ops.runtime import derive_seed
from ops.train.recipe import Recipe, Schedule


def start(recipe: Recipe, name: str, images: ImageSet, initial: Path | None, seed: int) -> tuple[Classifier, ModelCard]:
    """Return the network that training starts from and its card, with the hash of these weights (soups need it).

    Raises AmalgamError if the model in `initial` has another architecture.
    """
    mean, std = channel_statistics(images)
    card = ModelCard(
        name=name,
        architecture=recipe.architecture,
        classes=list(images.classes),
        image_size=images.images.shape[1],
        mean=mean,
        std=std,
        seed=seed,
        ancestor="",
        recipe=recipe.model_dump(mode="json"),
    )
    if initial is None:
        model = build_classifier(recipe.architecture, len(images.classes), mean, std, derive_seed(seed, name))
        return model, card.model_copy(update={"ancestor": weights_digest(model)})
    before, theirs = load_classifier(initial, torch.device("cpu"))
    model = build_classifier(recipe.architecture, len(images.classes), theirs.mean, theirs.std)
    load_weights(model, before.state_dict(), theirs.name)
    return model, card.model_copy(update={"mean": theirs.mean, "std": theirs.std, "ancestor": theirs.ancestor})


def channel_statistics(images: ImageSet, limit: int = 2000) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over at most `limit` evenly spaced images.

    A channel that does not vary gets a deviation of 1, so that normalising it divides by something.
    """
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64)
    pixels = images.images[chosen].astype(np.float64).reshape(-1, 3) / 255
    std = [round(float(v), 4) or 1.0 for v in pixels.std(axis=0)]
    return [round(float(v), 4) for v in pixels.mean(axis=0)], std


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Return the optimizer with weight decay on weight matrices and biases of linear layers, as in the papers.

    Norms' scales and offsets, tokens and positions are not decayed.
    """
    decayed = list(_decayed(model))
    known = {id(p) for p in decayed}
    plain = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr, betas=(schedule.momentum, 0.95), foreach=True)
    nesterov = schedule.momentum > 0
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum, nesterov=nesterov, foreach=True)


def _decayed(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of convolutions and linear layers (networks here give their convolutions no bias)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield from module.parameters(recurse=False)
