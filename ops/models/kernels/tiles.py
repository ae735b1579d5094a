"""Compiled loops over some tiles of images on the CPU: squares of `STEP` pixels, counted row by row, image after image.

Images are (N, H, W, C) float32, C-contiguous. One iteration is one tile, so that results do not depend on the number of
threads.
"""

from numba import njit, prange

from ops.models.kernels.compiling import OPTIONS
from ops.models.kernels.norm_silu import sigmoid
from ops.models.schemes import STEP


@njit(inline="always")
def bounds(place, height, width):  # type: ignore[no-untyped-def]
    """Return the image of a tile, its first row and the one after its last, and so its columns."""
    across = (width + STEP - 1) // STEP
    image, tile = divmod(place, (height + STEP - 1) // STEP * across)
    top, left = tile // across * STEP, tile % across * STEP
    return image, top, min(top + STEP, height), left, min(left + STEP, width)


@njit(**OPTIONS)
def normalise_silu(x, places, mean, scale, offset, y):  # type: ignore[no-untyped-def]
    """Put silu((x - mean) scale + offset) in the tiles of `y` at `places` (T,); all but images are (C,) float32."""
    _, height, width, channels = x.shape
    for t in prange(len(places)):
        image, top, bottom, left, right = bounds(places[t], height, width)
        for i in range(top, bottom):
            for j in range(left, right):
                for c in range(channels):
                    v = (x[image, i, j, c] - mean[c]) * scale[c] + offset[c]
                    y[image, i, j, c] = v * sigmoid(v)


@njit(**OPTIONS)
def copy_tiles(source, source_places, target, target_places):  # type: ignore[no-untyped-def]
    """Copy the tiles at `source_places` (T,) of `source` to those at `target_places` (T,) of `target`."""
    _, height, width, channels = source.shape
    for t in prange(len(source_places)):
        image, top, bottom, left, right = bounds(source_places[t], height, width)
        other, _, _, _, _ = bounds(target_places[t], height, width)
        for i in range(top, bottom):
            for j in range(left, right):
                for c in range(channels):
                    target[other, i, j, c] = source[image, i, j, c]
