"""Probabilities that mean what they say, before a classifier is told of other class priors.

Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020, Maximum likelihood with bias-corrected
calibration is hard-to-beat at label shift adaptation): one temperature and one bias for each class, chosen on images that
the classifier was not trained on. What it says of other images, such as unseen concepts, may still mean something else.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

TINY = np.finfo(np.float64).tiny
SLOPES = (0.01, 100.0)
BIAS = 20.0
"""No bias is further from 0: without a bound one could run away where classes are separated."""


@dataclass(frozen=True)
class Calibration:
    """softmax(log p * slope + bias)."""

    slope: float
    """One over the temperature."""
    bias: np.ndarray
    """(K,)."""

    def __call__(self, posteriors: np.ndarray) -> np.ndarray:
        """Return the calibrated posteriors (N, K) of a classifier that says `posteriors`."""
        return softmax(np.log(np.maximum(posteriors, TINY)) * self.slope + self.bias, axis=1)


def fit_calibration(posteriors: np.ndarray, labels: np.ndarray) -> Calibration:
    """Return the calibration under which the true `labels` (N,) are likeliest; `posteriors` are (N, K).

    The likelihood is concave in slope and biases. Calibrated posteriors average to the share of each class among
    `labels`: these are the priors they stand for. Every class must have an image.
    """
    logits = np.log(np.maximum(posteriors, TINY))
    count, classes = logits.shape
    truth = np.zeros_like(logits)
    truth[np.arange(count), labels] = 1

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = log_softmax(logits * values[0] + values[1:], axis=1)
        error = np.exp(scaled) - truth
        gradient = np.concatenate([[(error * logits).sum()], error.sum(axis=0)])
        return float(-(scaled * truth).sum()) / count, gradient / count

    start = np.concatenate([[1.0], np.zeros(classes)])
    bounds = [SLOPES, *[(-BIAS, BIAS)] * classes]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-8})
    return Calibration(float(found.x[0]), found.x[1:])
