"""Temperature scaling: one number for each model, from images that it was not trained on, to make it better calibrated."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

RANGE = (0.01, 100.0)
"""Temperatures are looked for here: where a model is always right, the best one would be 0."""


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the T at which softmax(log p / T) gives the true `labels` (N,) the largest likelihood (Guo et al. 2017).

    `log_probabilities` (N, K) may be logits, which differ by a constant in each row. The likelihood is concave in 1 / T, so
    that there is one best value; it is at an end of `RANGE` where the model is always right, or no better than chance.

    Raises ValueError without images.
    """
    if not len(labels):
        raise ValueError("a temperature needs images")
    places = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(log_probabilities / np.exp(log_temperature), axis=1)
        return float(-scaled[places, labels].mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def scaled_probabilities(log_probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log p / T) (N, K); the order of the classes, and so every prediction, stays."""
    return softmax(log_probabilities / temperature, axis=1)
