"""A kernel density for each condition: a training image, and Gaussian noise around it.

In the principal components of all training images, divided by their standard deviations, the density of a cell is

    p(u) = sum_i w_i N(u; u_i, h^2 I)

over its images u_i with weights w_i that sum to 1 (Parzen 1962); a draw is the smoothed bootstrap. Noise is therefore
large where images differ much. The bandwidth h is the one of highest likelihood of images whose concept is left out:
concepts, since near-duplicates on both sides would ask for no noise at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.decomposition import PCA

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.generate.baselines.baseline import Baseline, identity_of, on_grid, to_bytes
from ops.generate.baselines.cells import Cell, Cells, chosen, refuse_single
from ops.generate.baselines.config import BaselinesConfig
from ops.runtime import derive_seed
from ops.summary import Figure

ROWS = 512
"""Rows of the matrix of distances, and images that are projected, at a time."""
CODE_BITS, FACTOR_BITS = 16, 20
"""Of the grids of codes and factors: all sums stay below 2^53 units."""


@dataclass(frozen=True)
class Kernels:
    """The density of one cell."""

    codes: np.ndarray
    """u_i (n, d) float64."""
    edges: np.ndarray
    """Cumulated weights (n,), the last 1."""
    bandwidth: float


@dataclass(frozen=True)
class Mixture:
    """One density for each cell, in common components."""

    mean: np.ndarray
    """(P,) float64, in grey levels."""
    factor: np.ndarray
    """Components times standard deviations (d, P) float64: pixels are mean + u factor."""
    kernels: Mapping[Cell, Kernels]
    shape: tuple[int, int, int]

    def sample(self, cell: Cell, random: Sequence[np.random.Generator]) -> np.ndarray:
        """Return one image for each random stream, (N, H, W, 3) uint8."""
        kernels = self.kernels[cell]
        uniform = np.array([rng.random() for rng in random])
        normal = np.stack([rng.standard_normal(len(self.factor)) for rng in random])
        centres = np.searchsorted(kernels.edges, uniform, side="right").clip(max=len(kernels.edges) - 1)
        codes = on_grid(kernels.codes[centres] + kernels.bandwidth * normal, CODE_BITS)
        return to_bytes(self.mean + codes @ self.factor, self.shape)


def fit_mixture(config: BaselinesConfig, images: ImageSet, cells: Cells) -> Baseline:
    """Return a kernel density for each of `cells` as a source.

    Where all images of a cell are of one concept, single images are left out instead. The components ignore weights:
    they are only the space in which images are compared.

    Raises AmalgamError for a class with a single image, and if all training images are equal.
    """
    refuse_single(cells, "a kernel density")
    mean, factor, codes = _components(config, images)
    weights = images.table["weight"].to_numpy(np.float64)
    concepts = images.table["concept"].to_numpy()
    kernels: dict[Cell, Kernels] = {}
    lines: list[dict[str, Figure]] = []
    for cell, members in cells.members.items():
        mine = chosen(members, config.fit_images, config.seed, "mixture", *cell)
        share = weights[mine] / weights[mine].sum()
        groups = np.unique(concepts[mine], return_inverse=True)[1]
        left_out = groups if groups.max() else np.arange(len(mine))
        scores = held_out_likelihood(codes[mine], share, left_out, config.mixture.bandwidths)
        bandwidth = config.mixture.bandwidths[int(np.argmax(scores))]
        edges = np.cumsum(share)
        kernels[cell] = Kernels(codes[mine], edges / edges[-1], bandwidth)
        concept_count = int(groups.max()) + 1
        lines.append(
            {"condition": cells.describe(cell), "images": len(mine), "concepts": concept_count, "bandwidth": bandwidth}
        )
    settings = {"components": len(factor), "bandwidths": config.mixture.bandwidths}
    scope = {"attribute": config.attribute, "min_images": config.min_images, "fit_images": config.fit_images}
    identity = identity_of("mixture", {**settings, **scope, "seed": config.seed}, images, config.attribute)
    shape = images.images.shape[1:]
    sampler = {"baseline": "mixture", "attribute": config.attribute, "components": len(factor)}
    model = Mixture(mean, on_grid(factor, FACTOR_BITS), kernels, shape)
    return Baseline("mixture", identity, sampler, config.seed, cells, model, shape, lines)


def _components(config: BaselinesConfig, images: ImageSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (P,), factor (d, P) and the codes (N, d) of all images; d is at most what the images span."""
    some = chosen(np.arange(len(images)), config.fit_images, config.seed, "mixture", "components")
    flat = images.images[some].reshape(len(some), -1).astype(np.float32)
    if (flat == flat[0]).all():
        raise AmalgamError("all training images are equal", "look at the dataset: there is nothing to learn from it")
    count = min(config.mixture.components, len(some) - 1, flat.shape[1])
    pca = PCA(count, random_state=derive_seed(config.seed, "components") % 2**32).fit(flat)
    std = np.sqrt(pca.explained_variance_.astype(np.float64))
    kept = std > 1e-4 * std[0]
    basis, std = pca.components_[kept].astype(np.float64), std[kept]
    mean = pca.mean_.astype(np.float64)
    codes = np.empty((len(images), len(std)))
    for start in range(0, len(images), ROWS):
        part = images.images[start : start + ROWS]
        codes[start : start + ROWS] = (part.reshape(len(part), -1) - mean) @ basis.T / std
    return mean, basis * std[:, None], codes


def held_out_likelihood(
    codes: np.ndarray, share: np.ndarray, groups: np.ndarray, bandwidths: Sequence[float]
) -> np.ndarray:
    """Return sum_i w_i log p_{-g(i)}(u_i; h) for each bandwidth h (B,).

    p_{-g} is the density of all points `codes` (n, d) but those of group g, with the weights `share` (n,) of the others
    scaled to 1; `groups` (n,) has at least two values.
    """
    size = np.bincount(groups, weights=share)
    total = np.zeros(len(bandwidths))
    for start in range(0, len(codes), ROWS):
        part = slice(start, start + ROWS)
        squares = cdist(codes[part], codes, "sqeuclidean")
        others = np.where(groups[part, None] == groups[None, :], 0.0, share[None, :]) / (1 - size[groups[part], None])
        for number, h in enumerate(bandwidths):
            norm = codes.shape[1] * np.log(h * np.sqrt(2 * np.pi))
            total[number] += share[part] @ (logsumexp(-squares / (2 * h**2), b=others, axis=1) - norm)
    return total
