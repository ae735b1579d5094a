"""Which images are evaluated, and what a model says of them: what all evaluations share."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class Answers:
    """What a model says of N images in one pass, or in several if it draws random numbers."""

    log_probabilities: np.ndarray
    """(N, K) float64: the logarithm of the probability that it gives to each class, mean over passes."""
    votes: np.ndarray
    """(N, K) float64: the share of the passes in which a class has the largest logit."""

    def predicted(self) -> np.ndarray:
        """Return the class (N,) int64 that most passes give, the first of those with as many.

        It is what the smoothed classifier of Cohen et al. 2019 says, who estimate it likewise.
        """
        return self.votes.argmax(axis=1)

    def share_right(self, labels: np.ndarray) -> np.ndarray:
        """Return the share (N,) of the passes that give the class in `labels` (N,)."""
        return self.votes[np.arange(len(labels)), labels]


@contextmanager
def seeded_noise(device: torch.device, *parts: int | str) -> Iterator[None]:
    """Let torch's global generators, from which random models draw, follow from `parts`; then put them back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed("noise", *parts))
        yield


def answers_of(model: nn.Module, x: torch.Tensor, name: str, passes: int) -> Answers:
    """Return what a model says of a batch (N, C, H, W) in `passes` passes; raises what `logits_of` raises."""
    shares, votes = [], []
    for _ in range(passes):
        logits = logits_of(model, x, name)
        shares.append(logits.double().log_softmax(dim=1))
        votes.append(F.one_hot(logits.argmax(dim=1), logits.shape[1]).double())
    mean = torch.stack(shares).logsumexp(dim=0) - math.log(passes)
    return Answers(mean.cpu().numpy(), torch.stack(votes).mean(dim=0).cpu().numpy())


def predict(model: nn.Module, name: str, images: ImageSet, batch: int, device: torch.device) -> np.ndarray:
    """Return the predicted class (N,) int64 of every image; raises what `ask` raises."""
    return ask(model, name, images, batch, device).predicted()


def ask(
    model: nn.Module, name: str, images: ImageSet, batch: int, device: torch.device, passes: int = 1, seed: int = 0
) -> Answers:
    """Return what the model says of every image; the noise of random models follows from `seed` and the batch.

    Raises AmalgamError for a model of another number of classes, and for logits that are no numbers.
    """
    parts = []
    for places in batches(np.arange(len(images)), batch):
        x = images.batch(places).to(device, memory_format=torch.channels_last)
        with seeded_noise(device, seed, "ask", int(places[0])):
            parts.append(answers_of(model, x, name, passes))
        classes = parts[-1].votes.shape[1]
        if classes != len(images.classes):
            raise AmalgamError(
                f"{name} tells {classes} classes apart, the dataset has {len(images.classes)}",
                "evaluate it on the dataset that it was trained on",
            )
    return Answers(
        *(np.concatenate(each) for each in zip(*((p.log_probabilities, p.votes) for p in parts), strict=True))
    )


def check_mode(model: nn.Module, name: str) -> None:
    """Raise AmalgamError for a model whose predictions would depend on the batch."""
    if model.training:
        raise AmalgamError(f"{name} is in training mode", "call model.eval() before the evaluation")
