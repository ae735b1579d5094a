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
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.mix.real_fraction < 1 and (self.synthetic is None or not len(self.synthetic)):
            raise AmalgamError("the recipe mixes in synthetic images, but there are none", "set mix.real_fraction to 1")
        if self.synthetic is not None and self.synthetic.classes != self.real.classes:
            raise AmalgamError(
                f"the synthetic images have the classes {', '.join(self.synthetic.classes)}, the real ones "
                f"{', '.join(self.real.classes)}",
                "make the synthetic shards again from this dataset",
            )

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, 3, H, W) in [0, 1] and targets (B, K) of `step`, rows in random order.

        The order matters to whoever takes a part of the batch (a process, a part of an accumulated batch, a sub-batch of
        CutMix): each part has its share of synthetic images.
        """
        n_real = real_count(self.batch, self.mix.real_fraction)
        images, labels, smoothing = [], [], []
        for name, source, count, amount in (
            ("real", self.real, n_real, self.label_smoothing),
            ("synthetic", self.synthetic, self.batch - n_real, self.mix.label_smoothing),
        ):
            if count and source is not None:
                chosen = shuffled(step * count, count, len(source), self.seed, name)
                images.append(source.images[chosen])
                labels.append(source.targets(chosen))
                smoothing.append(torch.full((count,), amount))
        pixels, y, amounts = np.concatenate(images), torch.cat(labels), torch.cat(smoothing)
        if 0 < n_real < self.batch:
            order = np.random.default_rng(derive_seed(self.seed, "rows", step)).permutation(self.batch)
            pixels, y, amounts = pixels[order], y[order], amounts[order]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(255)  # channels-last in memory
        return x, smoothed(y, len(self.real.classes), amounts)


def shuffled(start: int, count: int, size: int, *seed: int | str) -> np.ndarray:
    """Return entries start ... start + count of an endless sequence of shuffled epochs of 0 ... size - 1."""
    first, last = start // size, (start + count - 1) // size
    epochs = [np.random.default_rng(derive_seed(*seed, e)).permutation(size) for e in range(first, last + 1)]
    return np.concatenate(epochs)[start - first * size :][:count]
