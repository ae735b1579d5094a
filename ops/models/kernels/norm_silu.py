"""Compiled loops over images on the CPU, each one pass over memory; `ops.models.norm_silu` puts them together.

Arrays are (N, P, C) float32, C-contiguous: what an image batch (N, C, H, W) in channels_last is, with P = H W. One
iteration is one image, whatever the number of threads, so that sums come out the same for every number. Within an image
sums are in float32 over `RUN` pixels, where twice as many numbers fit in a vector, and in float64 beyond.
"""

import numpy as np
from numba import njit, prange

from ops.models.kernels.compiling import OPTIONS

RUN = 16
NUMERATOR = tuple(
    np.float32(c)
    for c in (
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
        6.37261928875436e-04, 4.89352455891786e-03,
    )
)  # fmt: skip
DENOMINATOR = tuple(
    np.float32(c) for c in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
)
"""Of Eigen's float tanh t: t p(t^2) / q(t^2), by falling powers."""


@njit(inline="always", error_model="numpy", fastmath={"contract", "nsz"})
def sigmoid(v):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + exp(-v)) within 3e-7, as (1 + tanh(v / 2)) / 2 with a rational tanh; a NaN stays one.

    `math.exp`, or a loop over the coefficients, could keep the compiler from using vector instructions.
    """
    half = np.float32(0.5) * v
    t = np.float32(-9) if half < np.float32(-9) else np.float32(9) if half > np.float32(9) else half
    s = t * t
    p = s * NUMERATOR[0] + NUMERATOR[1]
    p = s * p + NUMERATOR[2]
    p = s * p + NUMERATOR[3]
    p = s * p + NUMERATOR[4]
    p = s * p + NUMERATOR[5]
    p = s * p + NUMERATOR[6]
    q = s * DENOMINATOR[0] + DENOMINATOR[1]
    q = s * q + DENOMINATOR[2]
    q = s * q + DENOMINATOR[3]
    return np.float32(0.5) + np.float32(0.5) * (t * p / q)


@njit(inline="always", error_model="numpy", fastmath={"contract", "nsz"})
def silu_slope(v):  # type: ignore[no-untyped-def]
    """Return the derivative of v sigmoid(v)."""
    s = sigmoid(v)
    return s + v * s * (np.float32(1) - s)


@njit(inline="always")
def carry(first, second, sums, n):  # type: ignore[no-untyped-def]
    """Add the short sums `first` and `second` (C,) float32 to the long ones of image `n`, and set them to 0."""
    for c in range(len(first)):
        sums[0, n, c] += first[c]
        sums[1, n, c] += second[c]
        first[c] = 0
        second[c] = 0


@njit(**OPTIONS)
def moments(x, shift, sums):  # type: ignore[no-untyped-def]
    """Put sums of x - shift and of its square over the pixels of each image in `sums` (2, N, C) float64."""
    count, pixels, channels = x.shape
    for n in prange(count):
        first, second = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        sums[:, n] = 0
        for p in range(pixels):
            for c in range(channels):
                v = x[n, p, c] - shift[c]
                first[c] += v
                second[c] += v * v
            if p % RUN == RUN - 1 or p == pixels - 1:
                carry(first, second, sums, n)


@njit(**OPTIONS)
def normalise_silu(x, mean, scale, offset, y):  # type: ignore[no-untyped-def]
    """Put silu((x - mean) scale + offset) in `y`; all but images are (C,) float32."""
    count, pixels, channels = x.shape
    for n in prange(count):
        for p in range(pixels):
            for c in range(channels):
                v = (x[n, p, c] - mean[c]) * scale[c] + offset[c]
                y[n, p, c] = v * sigmoid(v)


@njit(**OPTIONS)
def silu_gradient(x, g, mean, scale, offset, d, sums):  # type: ignore[no-untyped-def]
    """Put the gradient before the SiLU in `d`, and sums of d and d (x - mean) of each image in `sums` (2, N, C) float64.

    `g` is the gradient of the output; the values between norm and SiLU are computed again, not remembered.
    """
    count, pixels, channels = x.shape
    for n in prange(count):
        first, second = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        sums[:, n] = 0
        for p in range(pixels):
            for c in range(channels):
                centred = x[n, p, c] - mean[c]
                v = centred * scale[c] + offset[c]
                slope = g[n, p, c] * silu_slope(v)
                d[n, p, c] = slope
                first[c] += slope
                second[c] += slope * centred
            if p % RUN == RUN - 1 or p == pixels - 1:
                carry(first, second, sums, n)


@njit(**OPTIONS)
def frozen_gradient(x, g, mean, scale, offset, d):  # type: ignore[no-untyped-def]
    """Put the gradient before norm and SiLU in `d`, for statistics that do not depend on `x`; `g` is the output's."""
    count, pixels, channels = x.shape
    for n in prange(count):
        for p in range(pixels):
            for c in range(channels):
                v = (x[n, p, c] - mean[c]) * scale[c] + offset[c]
                d[n, p, c] = g[n, p, c] * silu_slope(v) * scale[c]


@njit(**OPTIONS)
def norm_gradient(x, d, mean, scale, constant, slope):  # type: ignore[no-untyped-def]
    """Replace `d` by d scale - constant - slope (x - mean), the gradient before the norm."""
    count, pixels, channels = x.shape
    for n in prange(count):
        for p in range(pixels):
            for c in range(channels):
                d[n, p, c] = d[n, p, c] * scale[c] - constant[c] - slope[c] * (x[n, p, c] - mean[c])
