"""Compiled transforms of Winograd's convolution F(4x4, 3x3); `ops.models.winograd` puts them together.

Arrays are float32 and C-contiguous; an image batch (N, C, H, W) in channels_last is (N, H, W, C) here. A tile is 6x6
pixels of the input, four apart and starting one before the image's edge, or the 4x4 pixels of the output that follow from
it; a strip is one row of tiles. The matrices B, G and A are those of Lavin and Gray 2016, "Fast Algorithms for
Convolutional Neural Networks", section 4.3. Their rows come in pairs, a sum and a difference of the same two terms: one
function for each pair, on single numbers, which serves rows and columns. Each pair has a loop of its own, because the
compiler uses vector instructions only for loops that read and write few places at once. One iteration of a parallel loop
is one strip or one kernel, so that results do not depend on the number of threads.
"""

import numpy as np
from numba import njit, prange

from ops.models.kernels.compiling import OPTIONS
from ops.models.winograd import SIDE, STEP

TWO, FOUR, FIVE, SIX, EIGHT = (np.float32(number) for number in (2, 4, 5, 6, 8))


@njit(inline="always")
def b_outer(d0, d2, d4):  # type: ignore[no-untyped-def]
    """Return row 0 of B^T d; with d1, d3 and d5, row 5."""
    return FOUR * d0 - FIVE * d2 + d4


@njit(inline="always")
def b_ones(inner):  # type: ignore[no-untyped-def]
    """Return rows 1 and 2 of B^T d."""
    d1, d2, d3, d4 = inner
    even, odd = d4 - FOUR * d2, d3 - FOUR * d1
    return even + odd, even - odd


@njit(inline="always")
def b_twos(inner):  # type: ignore[no-untyped-def]
    """Return rows 3 and 4 of B^T d."""
    d1, d2, d3, d4 = inner
    even, odd = d4 - d2, TWO * (d3 - d1)
    return even + odd, even - odd


@njit(inline="always")
def at_even(m0, inner):  # type: ignore[no-untyped-def]
    """Return rows 0 and 2 of A^T m."""
    m1, m2, m3, m4 = inner
    near, far = m1 + m2, m3 + m4
    return m0 + near + far, near + FOUR * far


@njit(inline="always")
def at_odd(inner, m5):  # type: ignore[no-untyped-def]
    """Return rows 1 and 3 of A^T m."""
    m1, m2, m3, m4 = inner
    near, far = m1 - m2, m3 - m4
    return near + TWO * far, near + EIGHT * far + m5


@njit(inline="always")
def a_ones(four):  # type: ignore[no-untyped-def]
    """Return rows 1 and 2 of A g; rows 0 and 5 are g0 and g3."""
    g0, g1, g2, g3 = four
    even, odd = g0 + g2, g1 + g3
    return even + odd, even - odd


@njit(inline="always")
def a_twos(four):  # type: ignore[no-untyped-def]
    """Return rows 3 and 4 of A g."""
    g0, g1, g2, g3 = four
    even, odd = g0 + FOUR * g2, TWO * g1 + EIGHT * g3
    return even + odd, even - odd


@njit(inline="always")
def g_ones(taps):  # type: ignore[no-untyped-def]
    """Return rows 1 and 2 of G w; rows 0 and 5 are w0 / 4 and w2."""
    w0, w1, w2 = taps
    return -(w0 + w2 + w1) / SIX, -(w0 + w2 - w1) / SIX


@njit(inline="always")
def g_twos(taps):  # type: ignore[no-untyped-def]
    """Return rows 3 and 4 of G w."""
    w0, w1, w2 = taps
    even, odd = w0 / FOUR + w2, w1 / TWO
    return (even + odd) / SIX, (even - odd) / SIX


@njit(inline="always")
def gt_outer(v0, inner, v5):  # type: ignore[no-untyped-def]
    """Return rows 0 and 2 of G^T v."""
    v1, v2, v3, v4 = inner
    near, far = (v1 + v2) / SIX, (v3 + v4) / SIX
    return (v0 + far) / FOUR - near, far - near + v5


@njit(inline="always")
def gt_middle(inner):  # type: ignore[no-untyped-def]
    """Return row 1 of G^T v."""
    v1, v2, v3, v4 = inner
    return (v2 - v1 + (v3 - v4) / TWO) / SIX


@njit(inline="always")
def padded_rows(x, n, top, count):  # type: ignore[no-untyped-def]
    """Return `count` rows (1, count, W, C) from `top` on of image `n` in `x` (N, H, W, C), zero where there are none."""
    height, width, channels = x.shape[1:]
    found = np.zeros((1, count, width, channels), np.float32)
    for y in range(max(top, 0), min(top + count, height)):
        for w in range(width):
            for c in range(channels):
                found[0, y - top, w, c] = x[n, y, w, c]
    return found


@njit(inline="always")
def spread_rows(x, n, y, rows):  # type: ignore[no-untyped-def]
    """Put B^T of the rows y to y + 5 of image `n` in `x` (N, H, W, C) into `rows` (6, >= W + 2, C), from column 1 on."""
    width, channels = x.shape[2:]
    for w in range(width):
        for c in range(channels):
            rows[0, w + 1, c] = b_outer(x[n, y, w, c], x[n, y + 2, w, c], x[n, y + 4, w, c])
        for c in range(channels):
            rows[5, w + 1, c] = b_outer(x[n, y + 1, w, c], x[n, y + 3, w, c], x[n, y + 5, w, c])
        for c in range(channels):
            inner = x[n, y + 1, w, c], x[n, y + 2, w, c], x[n, y + 3, w, c], x[n, y + 4, w, c]
            rows[1, w + 1, c], rows[2, w + 1, c] = b_ones(inner)
        for c in range(channels):
            inner = x[n, y + 1, w, c], x[n, y + 2, w, c], x[n, y + 3, w, c], x[n, y + 4, w, c]
            rows[3, w + 1, c], rows[4, w + 1, c] = b_twos(inner)


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
            spread_rows(padded_rows(x, n, top, SIDE), 0, 0, rows)
        for k in range(across):
            t, w = strip * across + k, k * STEP
            for a in range(SIDE):
                b = SIDE * a
                for c in range(channels):
                    u[b, t, c] = b_outer(rows[a, w, c], rows[a, w + 2, c], rows[a, w + 4, c])
                for c in range(channels):
                    u[b + 5, t, c] = b_outer(rows[a, w + 1, c], rows[a, w + 3, c], rows[a, w + 5, c])
                for c in range(channels):
                    inner = rows[a, w + 1, c], rows[a, w + 2, c], rows[a, w + 3, c], rows[a, w + 4, c]
                    u[b + 1, t, c], u[b + 2, t, c] = b_ones(inner)
                for c in range(channels):
                    inner = rows[a, w + 1, c], rows[a, w + 2, c], rows[a, w + 3, c], rows[a, w + 4, c]
                    u[b + 3, t, c], u[b + 4, t, c] = b_twos(inner)


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
                    inner = m[b + 1, t, c], m[b + 2, t, c], m[b + 3, t, c], m[b + 4, t, c]
                    rows[a, w, c], rows[a, w + 2, c] = at_even(m[b, t, c], inner)
                for c in range(channels):
                    inner = m[b + 1, t, c], m[b + 2, t, c], m[b + 3, t, c], m[b + 4, t, c]
                    rows[a, w + 1, c], rows[a, w + 3, c] = at_odd(inner, m[b + 5, t, c])
        whole = np.empty((STEP, width, channels), np.float32)
        for w in range(width):
            for c in range(channels):
                inner = rows[1, w, c], rows[2, w, c], rows[3, w, c], rows[4, w, c]
                whole[0, w, c], whole[2, w, c] = at_even(rows[0, w, c], inner)
            for c in range(channels):
                inner = rows[1, w, c], rows[2, w, c], rows[3, w, c], rows[4, w, c]
                whole[1, w, c], whole[3, w, c] = at_odd(inner, rows[5, w, c])
        for row in range(min(STEP, height - top)):
            for w in range(width):
                for c in range(channels):
                    y[n, top + row, w, c] = whole[row, w, c]


@njit(**OPTIONS)
def spread_kernel(kernels, turned, v):  # type: ignore[no-untyped-def]
    """Put G g G^T of every g in `kernels` (K, 3, 3, C), turned by 180 degrees if `turned`, into `v` (36, K, C)."""
    count, _, _, channels = kernels.shape
    first, last = (2, 0) if turned else (0, 2)
    for k in prange(count):
        rows = np.empty((SIDE, 3, channels), np.float32)
        for b in range(3):
            column = 2 - b if turned else b
            for c in range(channels):
                rows[0, b, c] = kernels[k, first, column, c] / FOUR
                rows[5, b, c] = kernels[k, last, column, c]
            for c in range(channels):
                taps = kernels[k, first, column, c], kernels[k, 1, column, c], kernels[k, last, column, c]
                rows[1, b, c], rows[2, b, c] = g_ones(taps)
                rows[3, b, c], rows[4, b, c] = g_twos(taps)
        for a in range(SIDE):
            b = SIDE * a
            for c in range(channels):
                v[b, k, c] = rows[a, 0, c] / FOUR
                v[b + 5, k, c] = rows[a, 2, c]
            for c in range(channels):
                v[b + 1, k, c], v[b + 2, k, c] = g_ones((rows[a, 0, c], rows[a, 1, c], rows[a, 2, c]))
            for c in range(channels):
                v[b + 3, k, c], v[b + 4, k, c] = g_twos((rows[a, 0, c], rows[a, 1, c], rows[a, 2, c]))


@njit(inline="always")
def spread_output_rows(g, n, y, rows):  # type: ignore[no-untyped-def]
    """Put A of the rows y to y + 3 of image `n` in `g` (N, H, W, K) into `rows` (6, >= W, K)."""
    width, channels = g.shape[2:]
    for w in range(width):
        for c in range(channels):
            rows[0, w, c] = g[n, y, w, c]
            rows[5, w, c] = g[n, y + 3, w, c]
        for c in range(channels):
            four = g[n, y, w, c], g[n, y + 1, w, c], g[n, y + 2, w, c], g[n, y + 3, w, c]
            rows[1, w, c], rows[2, w, c] = a_ones(four)
        for c in range(channels):
            four = g[n, y, w, c], g[n, y + 1, w, c], g[n, y + 2, w, c], g[n, y + 3, w, c]
            rows[3, w, c], rows[4, w, c] = a_twos(four)


@njit(**OPTIONS)
def spread_outputs(g, first, images, z):  # type: ignore[no-untyped-def]
    """Put A g A^T of every output tile g of `images` images from `first` on in `g` (N, H, W, K) into `z` (36, tiles, K)."""
    height, width, channels = g.shape[1:]
    down, across = (height + 3) // STEP, (width + 3) // STEP
    for strip in prange(images * down):
        n, top = first + strip // down, strip % down * STEP
        rows = np.zeros((SIDE, across * STEP, channels), np.float32)
        if top + STEP <= height:
            spread_output_rows(g, n, top, rows)
        else:
            spread_output_rows(padded_rows(g, n, top, STEP), 0, 0, rows)
        for k in range(across):
            t, w = strip * across + k, k * STEP
            for a in range(SIDE):
                b = SIDE * a
                for c in range(channels):
                    z[b, t, c] = rows[a, w, c]
                    z[b + 5, t, c] = rows[a, w + 3, c]
                for c in range(channels):
                    four = rows[a, w, c], rows[a, w + 1, c], rows[a, w + 2, c], rows[a, w + 3, c]
                    z[b + 1, t, c], z[b + 2, t, c] = a_ones(four)
                for c in range(channels):
                    four = rows[a, w, c], rows[a, w + 1, c], rows[a, w + 2, c], rows[a, w + 3, c]
                    z[b + 3, t, c], z[b + 4, t, c] = a_twos(four)


@njit(**OPTIONS)
def gather_kernel(v, kernels):  # type: ignore[no-untyped-def]
    """Put G^T v G of every kernel's products in `v` (36, K, C) into `kernels` (K, 3, 3, C)."""
    count, _, _, channels = kernels.shape
    for k in prange(count):
        rows = np.empty((SIDE, 3, channels), np.float32)
        for a in range(SIDE):
            b = SIDE * a
            for c in range(channels):
                inner = v[b + 1, k, c], v[b + 2, k, c], v[b + 3, k, c], v[b + 4, k, c]
                rows[a, 0, c], rows[a, 2, c] = gt_outer(v[b, k, c], inner, v[b + 5, k, c])
                rows[a, 1, c] = gt_middle(inner)
        for b in range(3):
            for c in range(channels):
                inner = rows[1, b, c], rows[2, b, c], rows[3, b, c], rows[4, b, c]
                kernels[k, 0, b, c], kernels[k, 2, b, c] = gt_outer(rows[0, b, c], inner, rows[5, b, c])
                kernels[k, 1, b, c] = gt_middle(inner)
