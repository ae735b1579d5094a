"""The Fréchet distance of two Gaussians that are fitted to features (Heusel et al. 2017, without its Inception network)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from ops.evaluate.intervals import Interval

CHUNK = 4096


@dataclass(frozen=True)
class Gaussian:
    """Mean and a root of the covariance."""

    mean: np.ndarray
    """(D,) float64."""
    root: np.ndarray
    """(min(n, D), D) float64 with root^T root = the unbiased covariance."""


def gaussian(features: np.ndarray) -> Gaussian:
    """Return the Gaussian of features (n, D), n at least 2.

    The root is the triangular factor of the centred features, updated block by block: no covariance is formed, whose
    rounding would drown small directions, and memory does not grow with n.
    """
    count = len(features)
    mean = np.asarray(features).mean(axis=0, dtype=np.float64)
    root = np.empty((0, features.shape[1]))
    for start in range(0, count, CHUNK):
        root = np.concatenate([root, features[start : start + CHUNK] - mean])
        if len(root) > root.shape[1]:
            root = np.asarray(np.linalg.qr(root, mode="r"))
    return Gaussian(mean, root / np.sqrt(count - 1))


def distance(a: Gaussian, b: Gaussian) -> float:
    """Return |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), at least 0.

    With S = R^T R the trace of the root is the sum of the singular values of R_a R_b^T, because S_a S_b and
    (R_a R_b^T)(R_a R_b^T)^T share their nonzero eigenvalues: no root of a matrix is taken, which fails where covariances
    are singular, as they are with fewer images than features.
    """
    shared = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    squares = ((a.mean - b.mean) ** 2).sum() + (a.root**2).sum() + (b.root**2).sum()
    return max(0.0, float(squares - 2 * shared))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of features (n, D) and (n, D).

    Raises ValueError for unequal n: the distance falls as n grows, so that only distances at one n can be compared.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} features: draw as many of both")
    return distance(gaussian(a), gaussian(b))


def frechet_interval(a: np.ndarray, b: np.ndarray, half_samples: int, seed: int) -> Interval:
    """Return the Fréchet distance of features (n, D) and (n, D) with a 95 % interval over images.

    The distance of finitely many images is too large by an amount that shrinks with n, also between draws of one
    distribution. The interval is *centred at the estimate*, at this n and with this bias: it says how the estimate varies
    over images, not where the distance of infinitely many would be. Read it beside the floor, the distance of two sets of
    real images at the same n. A bootstrap with replacement would add the bias of its repeated images.
    """
    return half_sample_interval(frechet, a, b, half_samples, seed)


def half_sample_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray, half_samples: int, seed: int
) -> Interval:
    """Return a statistic of two samples that is not negative, with a 95 % t interval from half-samples.

    For a mean, halves drawn without replacement vary around their own mean as the statistic of all n does over samples,
    since sigma^2 / (n / 2) (1 - 1 / 2) = sigma^2 / n (half-sampling, a jackknife that deletes n / 2); for other smooth
    statistics nearly so. Only the spread of the half-samples is used: their level has the bias of n / 2.
    """
    rng = np.random.default_rng(seed)
    estimate = statistic(a, b)
    found = [statistic(_half(a, rng), _half(b, rng)) for _ in range(half_samples)]
    reach = float(t.ppf(0.975, half_samples - 1) * np.std(found, ddof=1))
    return estimate, max(0.0, estimate - reach), estimate + reach


def _half(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows[rng.permutation(len(rows))[: len(rows) // 2]]
