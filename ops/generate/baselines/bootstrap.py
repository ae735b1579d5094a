"""Training images of each condition, redrawn with replacement in proportion to their weights.

What resampling alone does for a fair mix of groups; and, for tests of memorisation, the generator that must fail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.generate.baselines.baseline import Baseline, identity_of
from ops.generate.baselines.cells import Cell, Cells
from ops.generate.baselines.config import BaselinesConfig, BootstrapConfig
from ops.summary import Figure


@dataclass(frozen=True)
class Bootstrap:
    """The training images, and the cumulated weights of each cell."""

    config: BootstrapConfig
    images: np.ndarray
    """All training images (N, H, W, 3) uint8."""
    members: Mapping[Cell, np.ndarray]
    """Indices (n,)."""
    edges: Mapping[Cell, np.ndarray]
    """Cumulated weights (n,), the last 1."""

    def sample(self, cell: Cell, random: Sequence[np.random.Generator]) -> np.ndarray:
        """Return one image for each random stream, (N, H, W, 3) uint8."""
        uniform = np.array([rng.random() for rng in random])
        edges = self.edges[cell]
        found = np.searchsorted(edges, uniform, side="right").clip(max=len(edges) - 1)
        images = self.images[self.members[cell][found]]
        if self.config.flip:
            mirrored = np.array([rng.random() < 0.5 for rng in random])
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        if self.config.crop:
            margin = self.config.crop
            images = _shift(images, np.stack([rng.integers(-margin, margin + 1, 2) for rng in random]))
        return images


def _shift(images: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, 3) moved up and left by `by` (N, 2) pixels; the edge is repeated."""
    height, width = images.shape[1:3]
    rows = (by[:, :1] + np.arange(height)).clip(0, height - 1)
    columns = (by[:, 1:] + np.arange(width)).clip(0, width - 1)
    return images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def fit_bootstrap(config: BaselinesConfig, images: ImageSet, cells: Cells) -> Baseline:
    """Return the training images of each of `cells` as a source.

    Raises AmalgamError if images shall be shifted by more than their size.
    """
    settings = config.bootstrap
    shape = images.images.shape[1:]
    if settings.crop > min(shape[:2]):
        raise AmalgamError(
            f"baselines.bootstrap.crop is {settings.crop} pixels, but the images have {min(shape[:2])}",
            f"set it to {min(shape[:2])} at most",
        )
    weights = images.table["weight"].to_numpy(np.float64)
    edges = {cell: np.cumsum(weights[members] / weights[members].sum()) for cell, members in cells.members.items()}
    scope = {"attribute": config.attribute, "min_images": config.min_images, "seed": config.seed}
    identity = identity_of("bootstrap", {**settings.model_dump(), **scope}, images, config.attribute)
    sampler = {"baseline": "bootstrap", "attribute": config.attribute, **settings.model_dump()}
    lines: list[dict[str, Figure]] = [
        {"condition": cells.describe(cell), "images": len(members)} for cell, members in cells.members.items()
    ]
    model = Bootstrap(settings, images.images, cells.members, {cell: each / each[-1] for cell, each in edges.items()})
    return Baseline("bootstrap", identity, sampler, config.seed, cells, model, shape, lines)
