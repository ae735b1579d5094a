"""Kernel distances: squared maximum mean discrepancies, unbiased at any number of images (Gretton et al. 2012)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ops.evaluate.intervals import Interval

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From features (a, D) and (b, D) float64 to (a, b)."""
CHUNK = 1024
SCALE = 1000.0
"""Of the Gaussian kernel distance, as in CMMD (Jayasumana et al. 2024), to make it readable."""


@dataclass(frozen=True)
class Discrepancy:
    """A squared discrepancy, and what each image moves it by."""

    value: float
    """Around 0 for two independent samples of one distribution, then on both sides of it. Below 0, even clearly, where both
    have the same planned share of every class: such samples are nearer to each other than independent ones."""
    moved: tuple[np.ndarray, np.ndarray]
    """Of each sample (n,): jackknife influences (n - 1)(mean of the values without one - value without this one)."""

    def error(self) -> float:
        """Return the jackknife's standard error, over images of both samples (Arvesen 1969)."""
        return float(np.sqrt(sum((part**2).sum() / (len(part) * (len(part) - 1)) for part in self.moved)))

    def interval(self) -> Interval:
        """Return the value with its normal 95 % interval.

        The jackknife's error is too large, not too small, where the distributions agree: there the first-order part that
        it is exact for vanishes.
        """
        reach = float(norm.ppf(0.975)) * self.error()
        return self.value, self.value - reach, self.value + reach


def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (x . y / D + 1)^3, the kernel of the kernel Inception distance (Binkowski et al. 2018)."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # less to compute than a power of floats


def gaussian_kernel(bandwidth: float) -> Kernel:
    """Return the kernel exp(-|x - y|^2 / (2 bandwidth^2)) - 1 of features of length 1.

    The constant cancels in a discrepancy, and leaves small distances their digits. CMMD uses bandwidth 10 on CLIP
    embeddings of length 1, where |x - y| <= 2: there the kernel is nearly linear, and compares little but means.
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.expm1((x @ y.T - 1) / bandwidth**2)

    return kernel


def normalised(features: np.ndarray) -> np.ndarray:
    """Return features (n, D) float64 scaled to length 1; those of length 0 stay."""
    features = np.asarray(features, np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def discrepancy(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Discrepancy:
    """Return the unbiased squared discrepancy of features (n, D) and (m, D) over all pairs, n and m at least 3.

        mean of k(x_i, x_j), i != j  +  mean of k(y_i, y_j), i != j  -  2 mean of k(x_i, y_j)

    The kernel Inception distance averages it over subsets, which only saves time. One block of pairs is in memory at a
    time; what the jackknife needs are the sums over rows and columns.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    within_x, within_y = _within(x, kernel), _within(y, kernel)
    across_x, across_y = _across(x, y, kernel)
    n, m, across = len(x), len(y), across_x.sum()
    mean_x, mean_y = within_x.sum() / (n * (n - 1)), within_y.sum() / (m * (m - 1))
    without_x = (within_x.sum() - 2 * within_x) / ((n - 1) * (n - 2)) + mean_y - 2 * (across - across_x) / ((n - 1) * m)
    without_y = mean_x + (within_y.sum() - 2 * within_y) / ((m - 1) * (m - 2)) - 2 * (across - across_y) / (n * (m - 1))
    moved = tuple((len(part) - 1) * (part.mean() - part) for part in (without_x, without_y))
    return Discrepancy(float(mean_x + mean_y - 2 * across / (n * m)), (moved[0], moved[1]))


def scaled(found: Discrepancy, scale: float) -> Discrepancy:
    """Return a discrepancy in other units."""
    return Discrepancy(found.value * scale, (found.moved[0] * scale, found.moved[1] * scale))


def _within(x: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Return for each row the sum (n,) of the kernel with all other rows."""
    sums = np.zeros(len(x))
    for start in range(0, len(x), CHUNK):
        block = kernel(x[start : start + CHUNK], x)
        here = np.arange(len(block))
        block[here, start + here] = 0
        sums[start : start + CHUNK] = block.sum(axis=1)
    return sums


def _across(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of the kernel over rows of `y`, for each of `x` (n,), and over rows of `x`, for each of `y` (m,)."""
    rows, columns = np.zeros(len(x)), np.zeros(len(y))
    for start in range(0, len(x), CHUNK):
        block = kernel(x[start : start + CHUNK], y)
        rows[start : start + CHUNK] = block.sum(axis=1)
        columns += block.sum(axis=0)
    return rows, columns
