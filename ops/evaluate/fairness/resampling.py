"""Bootstrap samples as weights: how often each image of a group is drawn.

Rows are resampled within groups, whose sizes stay. The same samples are drawn for every model, so that differences between
models are those of a paired bootstrap.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

CELLS = 2**20
"""Weights that are in memory at a time."""

Statistics = Mapping[str, np.ndarray]
"""By measure (samples, ...)."""


def weights(count: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of `count` images is in each sample (count, R) float32, in chunks of samples.

    The first sample is the images as they are; `replicates` follow, drawn with replacement.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, CELLS // count)
    yield np.ones((count, 1), np.float32)
    for start in range(0, replicates, rows):
        size = min(rows, replicates - start)
        drawn = rng.integers(0, count, (size, count))
        drawn += np.arange(size)[:, None] * count
        found = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield np.ascontiguousarray(found.T, np.float32)


def by_group(
    statistics: Callable[[int, np.ndarray], Statistics], sizes: Sequence[int], replicates: int, seeds: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return statistics of the sample and of bootstrap samples, (replicates + 1, G, ...) by name.

    `statistics(g, weights)` maps weights (size of group g, R) to (R, ...) by name.
    """
    groups: list[dict[str, np.ndarray]] = []
    for group, (size, seed) in enumerate(zip(sizes, seeds, strict=True)):
        chunks = [statistics(group, w) for w in weights(size, replicates, seed)]
        groups.append({name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]})
    return {name: np.stack([group[name] for group in groups], axis=1) for name in groups[0]} if groups else {}


def resampled_shares(successes: np.ndarray, counts: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Return the shares of G groups in the sample and in bootstrap samples (replicates + 1, G).

    What `by_group` gives for a mean of outcomes that are 0 or 1: their sum in a sample is binomial.
    """
    share = successes / counts
    drawn = np.random.default_rng(seed).binomial(counts, share, (replicates, len(counts))) / counts
    return np.concatenate([share[None], drawn])


def intervals(values: np.ndarray) -> np.ndarray:
    """Return estimate, lower and upper end of the 95 % percentile interval (3, ...) from samples (R, ...), the first as it is.

    The interval holds the estimate: a maximum is biased upwards under resampling, a minimum downwards. Samples in which a
    statistic is not defined (nan) do not count.
    """
    estimate, drawn = values[0], values[1:]
    percentile = np.nanpercentile if np.isnan(drawn).any() else np.percentile
    low, high = percentile(drawn, [2.5, 97.5], axis=0)
    return np.stack([estimate, np.fmin(low, estimate), np.fmax(high, estimate)])
