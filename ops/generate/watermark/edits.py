"""What happens to images on their way: the edits that a watermark is tested against."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Edit = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From images (N, H, W, 3) uint8 to as many of the same size."""


def edits() -> dict[str, Edit]:
    """Return the edits by name, mildest first."""
    return {
        "none (PNG)": lambda images, rng: images,
        "JPEG 90": lambda images, rng: jpeg(images, 90),
        "JPEG 75": lambda images, rng: jpeg(images, 75),
        "JPEG 50": lambda images, rng: jpeg(images, 50),
        "mirrored": lambda images, rng: images[:, :, ::-1],
        "3/4 size and back": lambda images, rng: resized(images, 0.75),
        "half size and back": lambda images, rng: resized(images, 0.5),
        "blur, sigma 0.8": lambda images, rng: blurred(images, 0.8),
        "noise, sigma 4/255": lambda images, rng: noisy(images, 4, rng),
        "noise, sigma 8/255": lambda images, rng: noisy(images, 8, rng),
        "shifted by 1 pixel": lambda images, rng: shifted(images, 1),
        "cropped by 1 pixel, enlarged": lambda images, rng: cropped(images, 1),
        "cropped by 2 pixels, enlarged": lambda images, rng: cropped(images, 2),
    }


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Return images after JPEG compression of `quality` (1 to 95), colours at half resolution as usual."""
    return np.stack([_through_jpeg(image, quality) for image in images])


def resized(images: np.ndarray, share: float) -> np.ndarray:
    """Return images made smaller to `share` of their side, and back to their size (bicubic)."""
    height, width = images.shape[1:3]
    small = (max(1, round(width * share)), max(1, round(height * share)))
    return np.stack([_resize(_resize(image, small), (width, height)) for image in images])


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Return images after a Gaussian blur of `sigma` pixels."""
    smooth = gaussian_filter(images.astype(np.float64), (0, sigma, sigma, 0), mode="nearest")
    return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


def noisy(images: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return images with independent Gaussian noise of `sigma` grey levels in every channel."""
    return np.clip(np.rint(images + rng.normal(0, sigma, images.shape)), 0, 255).astype(np.uint8)


def shifted(images: np.ndarray, pixels: int) -> np.ndarray:
    """Return images moved down and right, edges repeated: a crop of two sides that is filled up again."""
    height, width = images.shape[1:3]
    return np.pad(images, ((0, 0), (pixels, 0), (pixels, 0), (0, 0)), mode="edge")[:, :height, :width]


def cropped(images: np.ndarray, pixels: int) -> np.ndarray:
    """Return images without `pixels` on every side, enlarged to their size again (bicubic)."""
    height, width = images.shape[1:3]
    inner = images[:, pixels : height - pixels, pixels : width - pixels]
    return np.stack([_resize(image, (width, height)) for image in inner])


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
