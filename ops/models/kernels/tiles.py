"""A compiled loop that settles which changes of remembered images stay; `ops.models.windows` says what these are.

Maps are (N, H, W, C) float32, C-contiguous. A tile is a square of `STEP` pixels, counted row by row, image after image.
"""

from numba import njit, prange

from ops.models.kernels.addresses import copy_numbers
from ops.models.kernels.compiling import INNER, OPTIONS
from ops.models.kernels.vectors import NUMBER_BYTES
from ops.models.schemes import STEP


@njit(**INNER)
def copy_windows(maps, source, target, image, other, windows, height, width):  # type: ignore[no-untyped-def]
    """Copy the tiles that have a pixel in one of the `windows` of `image` to those of the `other` one, in all maps.

    `source` and `target` are the columns of `maps` with the addresses to read from and to write to. A window is its first
    row and column and those after the last; there are K of them, (L, K, 4), for each of the levels that a map may have.
    """
    for number in range(len(maps)):
        channels, level = maps[number, 2], maps[number, 3]
        pixel = NUMBER_BYTES * channels
        for k in range(windows.shape[1]):
            top, left = windows[level, k, 0] // STEP * STEP, windows[level, k, 1] // STEP * STEP
            bottom = min(height, (windows[level, k, 2] + STEP - 1) // STEP * STEP)
            right = min(width, (windows[level, k, 3] + STEP - 1) // STEP * STEP)
            for i in range(top, bottom):
                copy_numbers(  # type: ignore[call-arg]
                    maps[number, source] + ((image * height + i) * width + left) * pixel,
                    maps[number, target] + ((other * height + i) * width + left) * pixel,
                    (right - left) * channels,
                )


@njit(**OPTIONS)
def keep_windows(maps, rows, chosen, windows, height, width):  # type: ignore[no-untyped-def]
    """Let the windows of the rows that are `chosen` (R,) bool stay, and restore all others.

    A row of `maps` (M, 4) int64 is where the map of all rows lies, where that of all images does, its channels, and the level
    of `windows` (R, L, K, 4) int64 that a change reaches in it. `rows` (R,) int64 says which image a row is a change of. At
    most one row of an image is chosen; its windows are copied into the image, and into the image's other rows.
    """
    for row in prange(len(rows)):
        if chosen[row]:
            copy_windows(maps, 0, 1, row, rows[row], windows[row], height, width)
    for row in prange(len(rows)):
        if chosen[row]:
            continue
        copy_windows(maps, 1, 0, rows[row], row, windows[row], height, width)
        for other in range(len(rows)):
            if chosen[other] and rows[other] == rows[row]:
                copy_windows(maps, 1, 0, rows[row], row, windows[other], height, width)
