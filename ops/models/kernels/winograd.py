"""Compiled transforms of Winograd's convolution F(4x4, 3x3); `ops.models.winograd` puts them together.

Arrays are float32 and C-contiguous; an image batch (N, C, H, W) in channels_last is (N, H, W, C) here. A tile is 6x6
pixels of the input, four apart and starting one before the image's edge, or the 4x4 pixels of the output that follow from
it; a strip is one row of tiles. The matrices are those of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
Networks", section 4.3. One iteration is one strip, so that results do not depend on the number of threads.
"""

import numpy as np
from numba import njit, prange

from ops.models.kernels.compiling import OPTIONS

SIDE, STEP = 6, 4
"""Pixels of a tile's side, of the input and of the output."""
TWO, FOUR, FIVE, SIX, EIGHT = (np.float32(number) for number in (2, 4, 5, 6, 8))


@njit(inline="always")
def spread_rows(x, n, y, rows):  # type: ignore[no-untyped-def]
    """Put B^T of the rows y to y + 5 of image `n` in `x` (N, H, W, C) into `rows` (6, >= W + 2, C), from column 1 on."""
    width, channels = x.shape[2:]
    for w in range(width):
        for c in range(channels):
            rows[0, w + 1, c] = FOUR * x[n, y, w, c] - FIVE * x[n, y + 2, w, c] + x[n, y + 4, w, c]
        for c in range(channels):
            rows[5, w + 1, c] = FOUR * x[n, y + 1, w, c] - FIVE * x[n, y + 3, w, c] + x[n, y + 5, w, c]
        for c in range(channels):
            even, odd = x[n, y + 4, w, c] - FOUR * x[n, y + 2, w, c], x[n, y + 3, w, c] - FOUR * x[n, y + 1, w, c]
            rows[1, w + 1, c] = even + odd
            rows[2, w + 1, c] = even - odd
        for c in range(channels):
            even, odd = x[n, y + 4, w, c] - x[n, y + 2, w, c], TWO * (x[n, y + 3, w, c] - x[n, y + 1, w, c])
            rows[3, w + 1, c] = even + odd
            rows[4, w + 1, c] = even - odd


@njit(**OPTIONS)
def spread(x, first, images, u):  # type: ignore[no-untyped-def]
    """Put B^T d B of every tile d of `images` images from `first` on in `x` (N, H, W, C) into `u` (36, tiles, C)."""
    height, width, channels = x.shape[1:]
    down, across = (height + 3) // STEP, (width + 3) // STEP
    for strip in prange(images * down):
        n, top = first + strip // down, strip % down * STEP - 1
        rows = np.zeros((SIDE, across * STEP + 2, channels), np.float32)
        if top >= 0 and top + SIDE <= height:
            spread_rows(x, n, top, rows)
        else:
            padded = np.zeros((1, SIDE, width, channels), np.float32)
            for y in range(max(top, 0), min(top + SIDE, height)):
                for w in range(width):
                    for c in range(channels):
                        padded[0, y - top, w, c] = x[n, y, w, c]
            spread_rows(padded, 0, 0, rows)
        for k in range(across):
            t, w = strip * across + k, k * STEP
            for a in range(SIDE):
                b = SIDE * a
                for c in range(channels):
                    u[b, t, c] = FOUR * rows[a, w, c] - FIVE * rows[a, w + 2, c] + rows[a, w + 4, c]
                for c in range(channels):
                    u[b + 5, t, c] = FOUR * rows[a, w + 1, c] - FIVE * rows[a, w + 3, c] + rows[a, w + 5, c]
                for c in range(channels):
                    even, odd = (
                        rows[a, w + 4, c] - FOUR * rows[a, w + 2, c],
                        rows[a, w + 3, c] - FOUR * rows[a, w + 1, c],
                    )
                    u[b + 1, t, c] = even + odd
                    u[b + 2, t, c] = even - odd
                for c in range(channels):
                    even, odd = rows[a, w + 4, c] - rows[a, w + 2, c], TWO * (rows[a, w + 3, c] - rows[a, w + 1, c])
                    u[b + 3, t, c] = even + odd
                    u[b + 4, t, c] = even - odd


@njit(inline="always")
def gather_rows(rows, w, n, top, y):  # type: ignore[no-untyped-def]
    """Put A^T of the six `rows[:, w]` into four rows, from `top` on, of column `w` of image `n` in `y` (N, H, W, C)."""
    height, channels = y.shape[1], y.shape[3]
    for c in range(channels):
        y[n, top, w, c] = rows[0, w, c] + (rows[1, w, c] + rows[2, w, c]) + (rows[3, w, c] + rows[4, w, c])
    if top + 1 < height:
        for c in range(channels):
            y[n, top + 1, w, c] = (rows[1, w, c] - rows[2, w, c]) + TWO * (rows[3, w, c] - rows[4, w, c])
    if top + 2 < height:
        for c in range(channels):
            y[n, top + 2, w, c] = (rows[1, w, c] + rows[2, w, c]) + FOUR * (rows[3, w, c] + rows[4, w, c])
    if top + 3 < height:
        for c in range(channels):
            far = EIGHT * (rows[3, w, c] - rows[4, w, c])
            y[n, top + 3, w, c] = (rows[1, w, c] - rows[2, w, c]) + far + rows[5, w, c]


@njit(**OPTIONS)
def gather(m, first, images, y):  # type: ignore[no-untyped-def]
    """Put A^T m A of every tile m in `m` (36, tiles, C) into `images` images from `first` on of `y` (N, H, W, C)."""
    height, width, channels = y.shape[1:]
    down, across = (height + 3) // STEP, (width + 3) // STEP
    for strip in prange(images * down):
        n, top = first + strip // down, strip % down * STEP
        rows = np.empty((SIDE, across * STEP, channels), np.float32)
        for k in range(across):
            t, w = strip * across + k, k * STEP
            for a in range(SIDE):
                b = SIDE * a
                for c in range(channels):
                    near, far = m[b + 1, t, c] + m[b + 2, t, c], m[b + 3, t, c] + m[b + 4, t, c]
                    rows[a, w, c] = m[b, t, c] + near + far
                    rows[a, w + 2, c] = near + FOUR * far
                for c in range(channels):
                    near, far = m[b + 1, t, c] - m[b + 2, t, c], m[b + 3, t, c] - m[b + 4, t, c]
                    rows[a, w + 1, c] = near + TWO * far
                    rows[a, w + 3, c] = near + EIGHT * far + m[b + 5, t, c]
        for w in range(width):
            gather_rows(rows, w, n, top, y)


@njit(**OPTIONS)
def spread_kernel(w, turned, v):  # type: ignore[no-untyped-def]
    """Put G g G^T of every kernel g in `w` (K, 9, C), turned by 180 degrees if `turned` is 1, into `v` (36, K, C)."""
    count, _, channels = w.shape
    for k in prange(count):
        rows = np.empty((SIDE, 3, channels), np.float32)
        for b in range(3):
            first = 8 - b if turned else b
            down = -3 if turned else 3
            for c in range(channels):
                w0, w1, w2 = w[k, first, c], w[k, first + down, c], w[k, first + 2 * down, c]
                ends = w0 + w2
                quarters = w0 / FOUR + w2
                rows[0, b, c] = w0 / FOUR
                rows[1, b, c] = -(ends + w1) / SIX
                rows[2, b, c] = -(ends - w1) / SIX
                rows[3, b, c] = (quarters + w1 / TWO) / SIX
                rows[4, b, c] = (quarters - w1 / TWO) / SIX
                rows[5, b, c] = w2
        for a in range(SIDE):
            for c in range(channels):
                w0, w1, w2 = rows[a, 0, c], rows[a, 1, c], rows[a, 2, c]
                v[SIDE * a, k, c] = w0 / FOUR
                v[SIDE * a + 5, k, c] = w2
            for c in range(channels):
                ends, middle = rows[a, 0, c] + rows[a, 2, c], rows[a, 1, c]
                v[SIDE * a + 1, k, c] = -(ends + middle) / SIX
                v[SIDE * a + 2, k, c] = -(ends - middle) / SIX
            for c in range(channels):
                quarters, middle = rows[a, 0, c] / FOUR + rows[a, 2, c], rows[a, 1, c] / TWO
                v[SIDE * a + 3, k, c] = (quarters + middle) / SIX
                v[SIDE * a + 4, k, c] = (quarters - middle) / SIX


@njit(inline="always")
def spread_outputs_rows(g, n, y, rows):  # type: ignore[no-untyped-def]
    """Put A of the rows y to y + 3 of image `n` in `g` (N, H, W, K) into `rows` (6, >= W, K)."""
    width, channels = g.shape[2:]
    for w in range(width):
        for c in range(channels):
            rows[0, w, c] = g[n, y, w, c]
            rows[5, w, c] = g[n, y + 3, w, c]
        for c in range(channels):
            even, odd = g[n, y, w, c] + g[n, y + 2, w, c], g[n, y + 1, w, c] + g[n, y + 3, w, c]
            rows[1, w, c] = even + odd
            rows[2, w, c] = even - odd
        for c in range(channels):
            even = g[n, y, w, c] + FOUR * g[n, y + 2, w, c]
            odd = TWO * g[n, y + 1, w, c] + EIGHT * g[n, y + 3, w, c]
            rows[3, w, c] = even + odd
            rows[4, w, c] = even - odd


@njit(**OPTIONS)
def spread_outputs(g, first, images, z):  # type: ignore[no-untyped-def]
    """Put A g A^T of every output tile g of `images` images from `first` on in `g` (N, H, W, K) into `z` (36, tiles, K)."""
    height, width, channels = g.shape[1:]
    down, across = (height + 3) // STEP, (width + 3) // STEP
    for strip in prange(images * down):
        n, top = first + strip // down, strip % down * STEP
        rows = np.zeros((SIDE, across * STEP, channels), np.float32)
        if top + STEP <= height:
            spread_outputs_rows(g, n, top, rows)
        else:
            padded = np.zeros((1, STEP, width, channels), np.float32)
            for y in range(top, height):
                for w in range(width):
                    for c in range(channels):
                        padded[0, y - top, w, c] = g[n, y, w, c]
            spread_outputs_rows(padded, 0, 0, rows)
        for k in range(across):
            t, w = strip * across + k, k * STEP
            for a in range(SIDE):
                b = SIDE * a
                for c in range(channels):
                    z[b, t, c] = rows[a, w, c]
                    z[b + 5, t, c] = rows[a, w + 3, c]
                for c in range(channels):
                    even, odd = rows[a, w, c] + rows[a, w + 2, c], rows[a, w + 1, c] + rows[a, w + 3, c]
                    z[b + 1, t, c] = even + odd
                    z[b + 2, t, c] = even - odd
                for c in range(channels):
                    even = rows[a, w, c] + FOUR * rows[a, w + 2, c]
                    odd = TWO * rows[a, w + 1, c] + EIGHT * rows[a, w + 3, c]
                    z[b + 3, t, c] = even + odd
                    z[b + 4, t, c] = even - odd


@njit(**OPTIONS)
def gather_kernel(v, w):  # type: ignore[no-untyped-def]
    """Put G^T v G of every kernel's products in `v` (36, K, C) into `w` (K, 9, C)."""
    count, _, channels = w.shape
    for k in prange(count):
        rows = np.empty((SIDE, 3, channels), np.float32)
        for a in range(SIDE):
            b = SIDE * a
            for c in range(channels):
                near, far = (v[b + 1, k, c] + v[b + 2, k, c]) / SIX, (v[b + 3, k, c] + v[b + 4, k, c]) / SIX
                rows[a, 0, c] = (v[b, k, c] + far) / FOUR - near
                rows[a, 2, c] = far - near + v[b + 5, k, c]
            for c in range(channels):
                near, far = v[b + 2, k, c] - v[b + 1, k, c], v[b + 3, k, c] - v[b + 4, k, c]
                rows[a, 1, c] = (near + far / TWO) / SIX
        for b in range(3):
            for c in range(channels):
                near, far = (rows[1, b, c] + rows[2, b, c]) / SIX, (rows[3, b, c] + rows[4, b, c]) / SIX
                w[k, b, c] = (rows[0, b, c] + far) / FOUR - near
                w[k, 6 + b, c] = far - near + rows[5, b, c]
            for c in range(channels):
                near, far = rows[2, b, c] - rows[1, b, c], rows[3, b, c] - rows[4, b, c]
                w[k, 3 + b, c] = (near + far / TWO) / SIX
