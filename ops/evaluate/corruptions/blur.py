"""Blurs of optics and motion: Gaussian, defocus, glass, motion and zoom.

All take images (N, H, W, 3) float64 in [0, 1] and return the same shape. A constant image stays as it is. Source:
Hendrycks and Dietterich (2019), section 3; hendrycks/robustness, `make_cifar_c.py` and `make_imagenet_c.py`.
"""

import numpy as np
from scipy.ndimage import correlate, correlate1d

from ops.evaluate.corruptions.draws import Generators, draw, round_to_bytes, to_bytes, to_unit, uniform
from ops.evaluate.corruptions.resampling import gather, smooth, streak, zoom_in


def gaussian_blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Return the images after a Gaussian blur of standard deviation `sigma` pixels."""
    return smooth(images, sigma)


def disk(radius: float, alias_sigma: float) -> np.ndarray:
    """Return the kernel (K, K) of a lens out of focus: a disk smoothed a little, which sums to 1.

    The original's, with one deviation: where the disk touches the edge of its array (radius 8 and 10), OpenCV's mirrored
    border adds weight, so that the original also brightens by 1 %; here the kernel is divided by its sum again.
    """
    reach = max(8, int(radius))
    line = np.arange(-reach, reach + 1)
    kernel = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    side = 1 if radius <= 8 else 2
    bell = np.exp(-(np.arange(-side, side + 1) ** 2) / (2 * alias_sigma**2))
    for axis in (0, 1):
        kernel = correlate1d(kernel, bell, axis=axis, mode="mirror")
    kernel = np.where(kernel < 1e-12 * kernel.max(), 0, kernel)
    used = np.flatnonzero(kernel.sum(axis=0))
    return kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1] / kernel.sum()


def defocus_blur(images: np.ndarray, radius: float, alias_sigma: float) -> np.ndarray:
    """Return the images out of focus: averaged over a disk of `radius` pixels whose edge is softened by `alias_sigma`."""
    return correlate(images, disk(radius, alias_sigma)[None, :, :, None], mode="mirror")


def glass_blur(images: np.ndarray, generators: Generators, sigma: float, reach: float, passes: float) -> np.ndarray:
    """Return the images as through frosted glass: blurred, pixels displaced by up to `reach`, blurred again.

    The original means to swap each pixel with a neighbour, from the last pixel to the first; but its swap is written on
    views of one array, so that the pixel receives its neighbour's colour and the neighbour keeps it. The published files
    were made so, and so are these. A neighbour further on has already been replaced by its own neighbour: instead of
    looping over pixels, `_follow` resolves such chains for all pixels of all images by pointer jumping.
    """
    count, height, width, _ = images.shape
    images = to_unit(to_bytes(smooth(images, sigma)))
    r = int(reach)
    rows, columns = np.arange(r + 1, height - r + 1), np.arange(r + 1, width - r + 1)
    shape = (int(passes), 2, len(rows), len(columns))
    moves = draw(generators, lambda g: g.integers(-r, r, shape))  # from -reach to reach - 1, as in the original
    for across, down in moves.transpose(1, 2, 0, 3, 4):
        source = np.tile(np.arange(height * width), (count, 1)).reshape(count, height, width)
        source[:, r + 1 : height - r + 1, r + 1 : width - r + 1] += down * width + across
        place = _follow(source.reshape(count, -1)).reshape(count, height, width)
        images = gather(images, place // width, place % width)
    return smooth(images, sigma)


def motion_blur(images: np.ndarray, generators: Generators, radius: float, sigma: float) -> np.ndarray:
    """Return the images moved along a line whose angle is uniform between -45 and 45 degrees.

    The original calls ImageMagick, which is no dependency here; `streak` is the same one-sided Gaussian line, and the
    result is rounded to bytes as ImageMagick's is.
    """
    degrees = -45 + 90 * uniform(generators, (1,))[:, 0]
    return to_unit(round_to_bytes(streak(images, radius, sigma, degrees)))


def zoom_blur(images: np.ndarray, last: float, step: float) -> np.ndarray:
    """Return the mean of the image and its zooms by 1, 1 + step, ..., last (so the image itself counts twice)."""
    factors = np.arange(1, last + step / 2, step)
    total = images.copy()
    for factor in factors:
        total += zoom_in(images, float(factor))
    return total / (len(factors) + 1)


def _follow(source: np.ndarray) -> np.ndarray:
    """Return the original pixel that each pixel ends up with, (N, P), when p takes the colour of source[p] in turn.

    Pixels are visited from the last to the first. A source at or before p still has its own colour; one after p has what
    it took itself, a pointer (marked by adding P) that is followed until it ends. Each round doubles the chains that are
    resolved, so at most log2(P) + 1 rounds.
    """
    pixels = source.shape[1]
    found = np.where(source > np.arange(pixels), source + pixels, source)
    while (pointing := found >= pixels).any():
        jump = np.take_along_axis(found, np.where(pointing, found - pixels, 0), axis=1)
        found = np.where(pointing, jump, found)
    return found
