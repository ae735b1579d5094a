"""Reading images between and beyond their pixels, for a whole batch at once."""

import math
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

Border = Literal["mirror", "reflect", "nearest"]
"""What lies outside, in scipy's names: abcd is continued by cb (mirror), by dc (reflect) or by dd (nearest)."""


def smooth(values: np.ndarray, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> np.ndarray:
    """Return values (N, H, W, ...) after a Gaussian blur of every plane.

    The defaults are those of `skimage.filters.gaussian`, which the original uses; the kernel ends `truncate` sigmas out.
    """
    return gaussian_filter(values, sigma, mode=border, truncate=truncate, axes=(1, 2))


def fold(index: np.ndarray, size: int, border: Border) -> np.ndarray:
    """Return indices, which may lie anywhere, as those of the pixels in [0, size) that continue the image there."""
    if border == "nearest":
        return np.clip(index, 0, size - 1)
    if border == "reflect":
        index = index % (2 * size)
        return np.minimum(index, 2 * size - 1 - index)
    index = index % (2 * size - 2)
    return np.minimum(index, 2 * size - 2 - index)


def gather(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return values[n, rows[n], columns[n]] for each n: (N, H, W, C) at integer places (N, ...) that broadcast."""
    count, height, width, channels = values.shape
    first = (np.arange(count) * (height * width)).reshape(-1, *[1] * (max(rows.ndim, columns.ndim) - 1))
    return np.take(values.reshape(-1, channels), first + rows * width + columns, axis=0)


def bilinear(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, border: Border) -> np.ndarray:
    """Return values (N, H, W, C) at the places (N, H', W') float64, interpolated linearly: (N, H', W', C)."""
    _, height, width, _ = values.shape
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    above, below = (fold(top.astype(np.int64) + i, height, border) for i in (0, 1))
    before, after = (fold(left.astype(np.int64) + i, width, border) for i in (0, 1))
    upper = gather(values, above, before) * (1 - right) + gather(values, above, after) * right
    lower = gather(values, below, before) * (1 - right) + gather(values, below, after) * right
    return upper * (1 - down) + lower * down


def zoom_in(values: np.ndarray, factor: float) -> np.ndarray:
    """Return values (N, H, W, C) zoomed into their centre, interpolated linearly, at the size they had.

    As in the original: the crop of ceil(size / factor) pixels is stretched so that its first and last pixel stay first
    and last, and what is then too large is trimmed. The original takes the height for both sides of its square images;
    here each side is treated by itself, so that other shapes work.
    """
    for axis in (1, 2):
        place = _zoom_places(values.shape[axis], factor)
        low = np.minimum(place.astype(np.int64), values.shape[axis] - 2)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(4)])
        first = np.take(values, low, axis=axis)
        values = first + (np.take(values, low + 1, axis=axis) - first) * share
    return values


def streak(
    values: np.ndarray, radius: float, sigma: float, degrees: np.ndarray, border: Border = "nearest"
) -> np.ndarray:
    """Return values (N, H, W, C) averaged along a line of one direction for each image (N,), in degrees.

    The weights are one side of a Gaussian, 2 radius + 1 of them, at the nearest pixel of each whole step along the line.
    With the border continued ("nearest") this is how ImageMagick's `motion-blur` is known to work.
    """
    _, height, width, _ = values.shape
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    across, down = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = np.zeros_like(values)
    for step, weight in zip(steps, weights, strict=True):
        rows = np.arange(height)[None] + np.ceil(step * down - 0.5).astype(np.int64)[:, None]
        columns = np.arange(width)[None] + np.ceil(step * across - 0.5).astype(np.int64)[:, None]
        rows, columns = fold(rows, height, border), fold(columns, width, border)
        out += weight * gather(values, rows[:, :, None], columns[:, None, :])
    return out


def _zoom_places(size: int, factor: float) -> np.ndarray:
    """Return where each of `size` pixels of the zoomed line reads the line."""
    crop = math.ceil(size / factor)
    stretched = round(crop * factor)
    trim = (stretched - size) // 2
    return (size - crop) // 2 + (np.arange(size) + trim) * ((crop - 1) / (stretched - 1))
