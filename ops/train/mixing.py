"""Batches of real and synthetic images."""

from dataclasses import dataclass

import numpy as np
import torch

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.runtime import derive_seed
from ops.train.groups import Groups, group_images
from ops.train.losses import smoothed
from ops.train.recipe import Mix, Recipe
from ops.train.sampling import Draws, balanced, repeated, shuffled, uniform


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
    draws: Draws | None = None
    """The order of the real images; None is shuffled epochs."""
    groups: Groups | None = None
    """Of recipes whose loss knows groups."""

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
        images, labels, smoothing = [], [], []
        amounts = (self.label_smoothing, self.mix.label_smoothing)
        for source, chosen, amount in zip((self.real, self.synthetic), self._chosen(step), amounts, strict=True):
            if len(chosen) and source is not None:
                images.append(source.images[chosen])
                labels.append(source.targets(chosen))
                smoothing.append(torch.full((len(chosen),), amount))
        order = self._order(step)
        pixels, y, each = np.concatenate(images), torch.cat(labels), torch.cat(smoothing)
        if order is not None:
            pixels, y, each = pixels[order], y[order], each[order]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(255)  # channels-last in memory
        return x, smoothed(y, len(self.real.classes), each)

    def groups_at(self, step: int) -> torch.Tensor | None:
        """Return the groups (B,) int64 of the rows of `at(step)`; None where there are no groups."""
        if self.groups is None:
            return None
        real, synthetic = self._chosen(step)
        found = np.concatenate([self.groups.real[real], self.groups.synthetic[synthetic]])
        order = self._order(step)
        return torch.from_numpy(found if order is None else found[order])

    @property
    def _n_real(self) -> int:
        return real_count(self.batch, self.mix.real_fraction)

    def _chosen(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the real and of the synthetic images of `step`, before they are put in order."""
        n_real, real, synthetic = self._n_real, np.empty(0, np.int64), np.empty(0, np.int64)
        n_synthetic = self.batch - n_real
        if n_real:
            draws = self.draws or uniform(len(self.real), self.seed, "real")
            real = draws(step * n_real, n_real)
        if n_synthetic and self.synthetic is not None:
            synthetic = shuffled(step * n_synthetic, n_synthetic, len(self.synthetic), self.seed, "synthetic")
        return real, synthetic

    def _order(self, step: int) -> np.ndarray | None:
        """Return the random order of the rows, if they are of both kinds."""
        if 0 < self._n_real < self.batch:
            return np.random.default_rng(derive_seed(self.seed, "rows", step)).permutation(self.batch)
        return None


def make_batches(
    recipe: Recipe, real: ImageSet, synthetic: ImageSet | None, seed: int, errors: np.ndarray | None = None
) -> Batches:
    """Return the batches of `recipe`; `errors` (E,) int64 are the real images that `sampling.method: errors` repeats.

    Raises AmalgamError where `Batches` and `group_images` do, and if such a recipe comes without errors.
    """
    draws, groups, sampling = None, None, recipe.sampling
    if sampling.method == "balanced":
        draws = balanced(group_images(sampling.by, real.table, None, "sampling.by").real, seed, "balanced")
    if sampling.method == "errors":
        if errors is None:
            raise AmalgamError(
                f"the recipe repeats what {sampling.identifier} gets wrong, but that model is missing",
                f"train {sampling.identifier} first, and give its folder as `identifier`",
            )
        draws = repeated(len(real), errors, sampling.upweight, seed, "real")
    if recipe.group_by:
        seen = real.table if recipe.mix.real_fraction > 0 else real.table.iloc[:0]
        mixed = synthetic.table if synthetic is not None and recipe.uses_synthetic else None
        groups = group_images(recipe.group_by, seen, mixed, "group_by")
    return Batches(real, synthetic, recipe.mix, recipe.schedule.batch, seed, recipe.label_smoothing, draws, groups)
