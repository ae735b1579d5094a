"""Clouds by the diamond-square algorithm, for a whole batch."""

import numpy as np

from ops.evaluate.corruptions.draws import Generators, uniform


def covering(height: int, width: int) -> int:
    """Return the smallest power of two that is no less than either side: 32 for 32 x 32, 256 for 224 x 224."""
    return 1 << (max(height, width) - 1).bit_length()


def plasma(generators: Generators, size: int, decay: float) -> np.ndarray:
    """Return maps (N, size, size) float64 that span [0, 1], clouds that repeat at their edges.

    Diamond-square, as in the original: the middle of each square, then of each diamond, is the mean of its corners and
    a uniform number. The original scales that number by its `wibble` twice, so from one scale to the next roughness
    falls by decay squared; the published strengths are for that.

    Args:
        generators: one for each map.
        size: side, a power of two.
        decay: how fast roughness falls; 3 is smooth, 1.4 is rough.
    """
    # size^2 - 1 points are filled in, in this order: at every step the squares, then the two kinds of diamond
    noise = 2 * uniform(generators, (size * size - 1,)) - 1
    maps = np.zeros((len(generators), size, size))
    used, step, roughness = 0, size, 1.0
    while step >= 2:
        half, side = step // 2, size // step
        rough = roughness * noise[:, used : used + 3 * side**2].reshape(-1, 3, side, side)
        corner = maps[:, ::step, ::step]
        right, below = np.roll(corner, -1, axis=2), np.roll(corner, -1, axis=1)
        middle = (corner + right + below + np.roll(below, -1, axis=2)) / 4 + rough[:, 0]
        maps[:, half::step, half::step] = middle
        maps[:, ::step, half::step] = (corner + right + middle + np.roll(middle, 1, axis=1)) / 4 + rough[:, 1]
        maps[:, half::step, ::step] = (corner + below + middle + np.roll(middle, 1, axis=2)) / 4 + rough[:, 2]
        used, step, roughness = used + 3 * side**2, half, roughness / decay**2
    maps -= maps.min(axis=(1, 2), keepdims=True)
    return maps / maps.max(axis=(1, 2), keepdims=True)
