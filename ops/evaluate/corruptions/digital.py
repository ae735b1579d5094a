"""What cameras and programs do: brightness, contrast, saturation, pixels and JPEG.

All take images (N, H, W, 3) float64 in [0, 1] and return the same shape; values may leave [0, 1] until `to_bytes` clips
them. Nothing here is random. Source: Hendrycks and Dietterich (2019), section 3; hendrycks/robustness,
`make_cifar_c.py` and `make_imagenet_c.py`.
"""

from io import BytesIO

import numpy as np
from PIL import Image

from ops.evaluate.corruptions.draws import round_to_bytes, to_unit


def brightness(images: np.ndarray, amount: float) -> np.ndarray:
    """Return the images with `amount` added to V of HSV, clipped at 1.

    Hue and saturation stay, so RGB is scaled by V' / V; black becomes grey. The original goes through skimage's HSV; the
    result is the same.
    """
    value = images.max(axis=-1, keepdims=True)
    raised = np.clip(value + amount, 0, 1)
    return np.where(value > 0, images * (raised / np.where(value > 0, value, 1)), raised)


def contrast(images: np.ndarray, factor: float) -> np.ndarray:
    """Return the images with every channel drawn towards its mean over the image: (x - mean) factor + mean."""
    # summed as whole numbers, so that the mean is exact in whatever order numpy adds
    levels = round_to_bytes(images).sum(axis=(1, 2), keepdims=True, dtype=np.int64)
    means = levels / (255.0 * images.shape[1] * images.shape[2])
    return (images - means) * factor + means


def saturate(images: np.ndarray, factor: float, summand: float) -> np.ndarray:
    """Return the images with S of HSV replaced by S factor + summand, clipped to [0, 1].

    Hue and V stay, so the distance of each channel from V is scaled by S' / S. Grey has no hue; it is taken as red, as
    skimage and so the original do: where `summand` is not 0, grey becomes reddish.
    """
    value = images.max(axis=-1, keepdims=True)
    spread = value - images.min(axis=-1, keepdims=True)
    saturation = spread / np.where(value > 0, value, 1)
    wanted = np.clip(saturation * factor + summand, 0, 1)
    coloured = value - (value - images) * (wanted / np.where(saturation > 0, saturation, 1))
    reddish = value * (1 - wanted * np.array([0.0, 1.0, 1.0]))
    return np.where(saturation > 0, coloured, reddish)


def pixelate(images: np.ndarray, share: float) -> np.ndarray:
    """Return the images shrunk to `share` of their sides by averaging boxes, and enlarged again.

    By PIL, image by image, as in the original: its two resizings are compiled code.
    """
    return to_unit(np.stack([_through_boxes(image, share) for image in round_to_bytes(images)]))


def jpeg_compression(images: np.ndarray, quality: float) -> np.ndarray:
    """Return the images written as JPEG of `quality` (colour at half resolution) by PIL, and read again."""
    return to_unit(np.stack([_through_jpeg(image, int(quality)) for image in round_to_bytes(images)]))


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 as it comes back from a JPEG file."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read)


def _through_boxes(image: np.ndarray, share: float) -> np.ndarray:
    """Return an image (H, W, 3) uint8 after `share` of its sides, rounded down, were left of it."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))
