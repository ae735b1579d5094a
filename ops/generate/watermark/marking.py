"""An invisible keyed mark for tiny images: spread spectrum in middle frequencies, placed where it costs least.

The mark adds a secret pattern of signs to coefficients of the discrete cosine transform (spread spectrum, Cox et al.
1997); `ops.generate.watermark.detection` correlates with it. Own design, for images of few pixels: with so few
coefficients a pattern of even strength drowns in the edges of a drawing. The embedder knows the image, so it spends what
the PSNR allows on the coefficients that need least to have the wanted sign with a margin, and leaves the others alone.
"""

import numpy as np
from scipy.fft import dctn, idctn

from ops.errors import AmalgamError
from ops.generate.watermark.config import WatermarkConfig
from ops.generate.watermark.keys import pattern

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the brightness (ITU-R BT.601), which JPEG keeps best."""
LEAST_COEFFICIENTS = 32
CHUNK = 1024
HALVINGS = 10


def band(config: WatermarkConfig, height: int, width: int) -> np.ndarray:
    """Return which coefficients (height, width) bool carry the mark: low <= frequency < high, along any direction.

    Raises AmalgamError if they are fewer than 32.
    """
    rows, columns = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    frequency = np.hypot(rows, columns)
    chosen = (frequency >= config.low) & (frequency < config.high)
    if chosen.sum() < LEAST_COEFFICIENTS:
        raise AmalgamError(
            f"images of {height} x {width} pixels have only {chosen.sum()} coefficients for a watermark",
            "widen the band (low, high), or do not mark images this small",
        )
    return chosen


def coefficients(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the `chosen` coefficients (N, n), in grey levels, of the brightness of images (N, H, W, 3) in [0, 255].

    The transform is orthonormal: a pattern's energy is the same in pixels and in coefficients.
    """
    return np.asarray(dctn(images.astype(np.float64) @ LUMA, axes=(1, 2), norm="ortho")[:, chosen])


def mark(images: np.ndarray, key: bytes, config: WatermarkConfig | None = None) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 with the mark of `key`, each at `config.psnr` dB or a little above.

    All channels change alike, so that colours stay. Memory does not grow with N beyond the result.

    Raises AmalgamError for images too small to carry a mark.
    """
    config = config or WatermarkConfig()
    height, width = images.shape[1:3]
    chosen = band(config, height, width)
    signs = pattern(key, int(chosen.sum()), height, width)
    marked = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        marked[part] = _as_strong_as_allowed(images[part], _change(images[part], signs, chosen, config), config.psnr)
    return marked


def psnr(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return 10 log10(255^2 / mean squared difference) in dB (N,) of images (N, H, W, 3) uint8; infinite if equal."""
    error = ((images.astype(np.float64) - others) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / error))


def _change(images: np.ndarray, signs: np.ndarray, chosen: np.ndarray, config: WatermarkConfig) -> np.ndarray:
    """Return what to add to every channel (N, H, W).

    To bring c_i to sign s_i with margin m costs max(0, m - s_i c_i)^2 of the allowed energy. Cheapest first, as many
    coefficients are brought there as the energy allows.
    """
    height, width = chosen.shape
    energy = height * width * 255**2 * 10 ** (-config.psnr / 10)
    wanted = signs * np.maximum(0.0, config.margin - signs * coefficients(images, chosen))
    cost = wanted**2
    order = np.argsort(cost, axis=1, kind="stable")
    affordable = np.cumsum(np.take_along_axis(cost, order, axis=1), axis=1) <= energy
    moved = np.zeros_like(affordable)
    np.put_along_axis(moved, order, affordable, axis=1)
    spectrum = np.zeros((len(images), height, width))
    spectrum[:, chosen] = np.where(moved, wanted, 0.0)
    return np.asarray(idctn(spectrum, axes=(1, 2), norm="ortho"))


def _as_strong_as_allowed(images: np.ndarray, change: np.ndarray, least: float) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 + a * change (N, H, W), with a in [0, 2] as large as `least` dB allow.

    Rounding, and clipping at black and white, take from the change what they like: so the PSNR is measured, and a
    found by bisection.
    """

    def shifted(strength: np.ndarray) -> np.ndarray:
        moved = images + (strength[:, None, None] * change)[..., None]
        return np.clip(np.rint(moved), 0, 255).astype(np.uint8)

    low, high = np.zeros(len(images)), np.full(len(images), 2.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fine = psnr(images, shifted(middle)) >= least
        low, high = np.where(fine, middle, low), np.where(fine, high, middle)
    return shifted(low)
