"""Which images are evaluated, and what a model says of them: what all evaluations share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.runtime import derive_seed


def choose(images: ImageSet, split: str, count: int, seed: int) -> ImageSet:
    """Return at most `count` images of a split, the same for every model: those with the smallest seeded hash of the id.

    With one seed, fewer images are among more.
    """
    return images.subset(chosen_places(list(images.table["id"]), split, count, seed))


def chosen_places(ids: Sequence[str], split: str, count: int, seed: int) -> np.ndarray:
    """Return the places of at most `count` ids, those with the smallest seeded hash, in their order."""
    rank = [derive_seed(seed, "evaluate", split, identity) for identity in ids]
    return np.sort(np.argsort(rank, kind="stable")[:count])


@torch.no_grad()
def logits_of(model: nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    """Return the logits of a batch; raises AmalgamError if one is no number."""
    logits = model(x)
    if not torch.isfinite(logits).all():
        raise AmalgamError(f"{name} gives logits that are no numbers", "train it again with a lower learning rate")
    return logits


def batches(places: np.ndarray, size: int) -> list[np.ndarray]:
    """Return `places` (N,) in parts of at most `size`."""
    return [places[start : start + size] for start in range(0, len(places), size)]


def predict(model: nn.Module, name: str, images: ImageSet, batch: int, device: torch.device) -> np.ndarray:
    """Return the predicted class (N,) int64 of every image; raises what `probabilities` raises."""
    return probabilities(model, name, images, batch, device).argmax(axis=1)


def probabilities(model: nn.Module, name: str, images: ImageSet, batch: int, device: torch.device) -> np.ndarray:
    """Return the probabilities (N, K) float64 that the model gives to the classes of every image.

    Raises what `log_probabilities` raises.
    """
    return np.exp(log_probabilities(model, name, images, batch, device))


def log_probabilities(model: nn.Module, name: str, images: ImageSet, batch: int, device: torch.device) -> np.ndarray:
    """Return the logarithms (N, K) float64 of the probabilities that the model gives to the classes of every image.

    Raises AmalgamError for a model of another number of classes, and for logits that are no numbers.
    """
    parts = []
    for places in batches(np.arange(len(images)), batch):
        x = images.batch(places).to(device, memory_format=torch.channels_last)
        logits = logits_of(model, x, name)
        if logits.shape[1] != len(images.classes):
            raise AmalgamError(
                f"{name} tells {logits.shape[1]} classes apart, the dataset has {len(images.classes)}",
                "evaluate it on the dataset that it was trained on",
            )
        parts.append(logits.double().log_softmax(dim=1).cpu())
    return torch.cat(parts).numpy()


def check_mode(model: nn.Module, name: str) -> None:
    """Raise AmalgamError for a model whose predictions would depend on the batch."""
    if model.training:
        raise AmalgamError(f"{name} is in training mode", "call model.eval() before the evaluation")
