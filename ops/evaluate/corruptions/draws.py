"""Randomness of one image at a time, and the way between bytes and intensities.

Every image has a generator of its own, from its seed, the name of the corruption and the severity. So its corrupted
version does not depend on which images share its batch, and can be made again alone. Everything after the draws works on
the whole batch with operations that treat each image the same in any company: element by element, along the lines of an
image, or as sums of fixed order; no matrix product or convolution whose algorithm depends on the size of the batch.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ops.runtime import derive_seed

Generators = Sequence[np.random.Generator]
"""One generator for each image of a batch."""

# Intensities go through at most a few dozen operations in double precision: a level that is hit exactly in real numbers
# comes out within 1e-12 of it, and must not fall to the level below when it is truncated.
GUARD = 1e-6


def make_generators(seeds: np.ndarray, name: str, severity: int) -> list[np.random.Generator]:
    """Return a generator for each seed (N,), of its own for this corruption and severity."""
    return [np.random.default_rng(derive_seed(int(seed), name, int(severity))) for seed in seeds]


def draw(generators: Generators, method: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
    """Return what `method` draws from each generator, stacked along a new first axis of length N."""
    return np.stack([method(generator) for generator in generators])


def normal(generators: Generators, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal numbers (N, *shape) float64."""
    out = np.empty((len(generators), *shape))
    for row, generator in zip(out, generators, strict=True):
        generator.standard_normal(out=row)
    return out


def uniform(generators: Generators, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers (N, *shape) float64 that are uniform in [0, 1)."""
    out = np.empty((len(generators), *shape))
    for row, generator in zip(out, generators, strict=True):
        generator.random(out=row)
    return out


def to_unit(images: np.ndarray) -> np.ndarray:
    """Return bytes as intensities, float64 in [0, 1]."""
    return images / 255.0


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Return intensities, clipped to [0, 1], as uint8; truncated and not rounded, as in the published files."""
    return (np.clip(values, 0, 1) * 255 + GUARD).astype(np.uint8)


def round_to_bytes(values: np.ndarray) -> np.ndarray:
    """Return intensities, clipped to [0, 1], as uint8; rounded, as image libraries do between their own steps."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
