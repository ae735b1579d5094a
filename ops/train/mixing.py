"""Batches of real and synthetic images."""

from dataclasses import dataclass

import numpy as np
import torch

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.runtime import derive_seed
from ops.train.losses import smoothed
from ops.train.recipe import Mix


def real_count(batch: int, fraction: float) -> int:
    """Return the number of real images in a batch: clip(round(B alpha), 1, B - 1); all or none for alpha 1 or 0."""
    if fraction in (0.0, 1.0):
        return batch if fraction else 0
    return min(max(round(batch * fraction), 1), batch - 1)


@dataclass(frozen=True)
class Batches:
    """The batches of a run: each follows from (seed, step) alone, so that a resumed run sees the same."""

    real: ImageSet
    synthetic: ImageSet | None
    mix: Mix
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.mix.real_fraction < 1 and (self.synthetic is None or not len(self.synthetic)):
            raise AmalgamError("the recipe mixes in synthetic images, but there are none", "set mix.real_fraction to 1")

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images (B, 3, H, W) in [0, 1], targets (B, K) and labels (B,) of `step`; real images come first."""
        n_real = real_count(self.batch, self.mix.real_fraction)
        images, labels, smoothing = [], [], []
        for name, source, count, amount in (
            ("real", self.real, n_real, 0.0),
            ("synthetic", self.synthetic, self.batch - n_real, self.mix.label_smoothing),
        ):
            if count and source is not None:
                chosen = shuffled(step * count, count, len(source), self.seed, name)
                images.append(source.batch(chosen))
                labels.append(source.targets(chosen))
                smoothing.append(torch.full((count,), amount))
        y = torch.cat(labels)
        return torch.cat(images), smoothed(y, len(self.real.classes), torch.cat(smoothing)), y


def shuffled(start: int, count: int, size: int, *seed: int | str) -> np.ndarray:
    """Return entries start ... start + count of an endless sequence of shuffled epochs of 0 ... size - 1."""
    first, last = start // size, (start + count - 1) // size
    epochs = [np.random.default_rng(derive_seed(*seed, e)).permutation(size) for e in range(first, last + 1)]
    return np.concatenate(epochs)[start - first * size :][:count]
