"""The Fréchet distance of images in a space that needs no learned network: principal components of their pixels.

FD = |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of Gaussians fitted to the features of two sets (Heusel et al. 2017), in
float64. It is biased by the number of images: only distances of equally many images to the same reference compare.
"""

import numpy as np
from sklearn.decomposition import PCA

from ops.evaluate.intervals import Interval, bootstrap


class PixelSpace:
    """Principal components of the pixels of real images (N, H, W, 3) uint8, and the Gaussian of their features."""

    def __init__(self, real: np.ndarray, components: int) -> None:
        flat = _flat(real)
        self._components = PCA(components, svd_solver="full").fit(flat)
        self.mean, self.covariance = moments(self._components.transform(flat))
        self.kept = float(self._components.explained_variance_ratio_.sum())

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the features (N, D) float64 of images (N, H, W, 3) uint8."""
        return self._components.transform(_flat(images))

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the distances (...) of sets of features (..., N, D) from the real images."""
        return frechet(*moments(features), self.mean, self.covariance)

    def difference(self, ours: np.ndarray, theirs: np.ndarray, replicates: int, seed: int) -> Interval:
        """Return by how much `ours` (N, D) is further from the real images than `theirs`, with a bootstrap interval.

        Row i of both is resampled together: it may begin with the same noise. The real images are taken as they are.
        """

        def further(pairs: np.ndarray) -> np.ndarray:
            return self.distance(pairs[:, :, 0]) - self.distance(pairs[:, :, 1])

        return bootstrap(further, np.stack([ours, theirs], axis=1), np.zeros(len(ours)), replicates, seed)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) / 255


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means (..., D) and unbiased covariances (..., D, D) of features (..., N, D)."""
    mean = features.mean(axis=-2)
    away = features - mean[..., None, :]
    return mean, np.swapaxes(away, -1, -2) @ away / (features.shape[-2] - 1)


def frechet(mean: np.ndarray, covariance: np.ndarray, mean_: np.ndarray, covariance_: np.ndarray) -> np.ndarray:
    """Return the squared Fréchet distances (...) of Gaussians from one with `mean_` (D,) and `covariance_` (D, D).

    The trace of (S S')^(1/2) is that of (R S R)^(1/2) with R = S'^(1/2), which is symmetric.
    """
    values, vectors = np.linalg.eigh(covariance_)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root).clip(min=0)).sum(axis=-1)
    traces = np.trace(covariance, axis1=-2, axis2=-1) + np.trace(covariance_)
    return np.square(mean - mean_).sum(axis=-1) + traces - 2 * cross
