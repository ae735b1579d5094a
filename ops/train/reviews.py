"""Evaluations during training, and the best model so far."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ops.attack.pgd import pgd
from ops.attack.threat import Threat
from ops.data.loading import ImageSet, open_images
from ops.resume import load_state, save_state
from ops.train.recipe import Recipe

ROBUST, CLEAN = "robust accuracy", "clean accuracy"


class Reviewer:
    """Evaluates at evenly spaced steps, the last of them at the end."""

    def __init__(self, recipe: Recipe, real: Path, train: ImageSet, cache: Path, steps: int) -> None:
        config = recipe.reviews
        self.recipe = recipe
        self.at = {max(1, round((i + 1) * steps / config.count)) for i in range(config.count)}
        whole = {split: train if split == "train" else open_images(real, split, cache) for split in config.splits}
        self.sets = {split: spread(images, config.images) for split, images in whole.items()}

    def review(self, average: nn.Module, live: nn.Module, device: torch.device) -> Iterator[dict[str, Any]]:
        """Yield weights, split, clean accuracy, robust accuracy and n of every evaluation."""
        models = {"averaged": average} | ({"live": live} if self.recipe.reviews.live else {})
        for weights, model in models.items():
            for split, images in self.sets.items():
                found = evaluate(model, images, self.recipe.threat, self.recipe.reviews.steps, device)
                yield {"weights": weights, "split": split, **found, "n": len(images)}


def spread(images: ImageSet, limit: int) -> ImageSet:
    """Return at most `limit` evenly spaced images."""
    return images.subset(np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64))


def evaluate(
    model: nn.Module, images: ImageSet, threat: Threat, steps: int, device: torch.device, batch: int = 256
) -> dict[str, float]:
    """Return clean accuracy and accuracy under PGD, in evaluation mode (the model's mode is as before afterwards)."""
    was_training = model.training
    model.eval()
    clean, robust = 0, 0
    for begin in range(0, len(images), batch):
        chosen = np.arange(begin, min(begin + batch, len(images)))
        x = images.batch(chosen).to(device).contiguous(memory_format=torch.channels_last)
        y = images.targets(chosen).to(device)
        with torch.no_grad():
            right = model(x).argmax(dim=1) == y
        clean += int(right.sum())
        standing = right.nonzero().squeeze(1)  # the others are lost already
        if len(standing):
            seeds = torch.from_numpy(chosen)[standing.cpu()]
            attacked = pgd(model, x[standing], y[standing], threat, steps=steps, example_seeds=seeds)
            with torch.no_grad():
                robust += int((model(attacked).argmax(dim=1) == y[standing]).sum())
    model.train(was_training)
    return {CLEAN: clean / len(images), ROBUST: robust / len(images)}


class Best:
    """The averaged model with the highest robust accuracy on validation images so far, in a file beside the state.

    What is best follows from the history, so that a resumed run chooses as an undisturbed one does.
    """

    def __init__(self, scratch: Path) -> None:
        self.path = scratch / "best.safetensors"

    def offer(self, model: nn.Module, history: list[dict[str, Any]]) -> None:
        """Keep `model`, whose evaluations end `history`, if it is better than all before; ties go to the first."""
        scores = [
            point[ROBUST] for point in history if (point["weights"], point["split"]) == ("averaged", "validation")
        ]
        if scores[-1] > max(scores[:-1], default=-1.0):
            save_state(self.path, model.state_dict(), {})

    def load_into(self, model: nn.Module) -> None:
        """Put the best weights into `model`."""
        found = load_state(self.path)
        assert found is not None, "every training ends with an evaluation"
        model.load_state_dict(found[0])
