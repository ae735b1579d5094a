"""Noise of sensors: Gaussian, shot, impulse and speckle.

All take images (N, H, W, 3) float64 in [0, 1] with a generator for each, and return the same shape; values may leave
[0, 1] until `to_bytes` clips them. Each channel of each pixel has noise of its own. Source: Hendrycks and Dietterich
(2019), section 3; hendrycks/robustness, `make_cifar_c.py`.
"""

import numpy as np

from ops.evaluate.corruptions.draws import Generators, normal, uniform


def gaussian_noise(images: np.ndarray, generators: Generators, sigma: float) -> np.ndarray:
    """Return x + sigma n, n standard normal: what low light does."""
    return images + sigma * normal(generators, images.shape[1:])


def shot_noise(images: np.ndarray, generators: Generators, photons: float) -> np.ndarray:
    """Return Poisson(x photons) / photons: light comes in quanta, `photons` of them at full intensity."""
    drawn = [g.poisson(image * photons) for image, g in zip(images, generators, strict=True)]
    return np.stack(drawn) / photons


def impulse_noise(images: np.ndarray, generators: Generators, amount: float) -> np.ndarray:
    """Return the images with a share `amount` of their values set to 0 or to 1, as often the one as the other.

    The original asks skimage (`random_noise`, mode `s&p`), which draws twice: whether, and which. One draw does both.
    """
    u = uniform(generators, images.shape[1:])
    return np.where(u < amount / 2, 1.0, np.where(u < amount, 0.0, images))


def speckle_noise(images: np.ndarray, generators: Generators, sigma: float) -> np.ndarray:
    """Return x + x sigma n, n standard normal: noise that grows with the intensity."""
    return images * (1 + sigma * normal(generators, images.shape[1:]))
