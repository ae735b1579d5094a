"""A classifier that is told of other class priors, or finds them out from unlabelled images.

After Saerens, Latinne and Decaestecker (2002), Adjusting the outputs of a classifier to new a priori probabilities: a
simple procedure. Everything rests on posteriors that are calibrated for the source prior.
"""

import numpy as np

TOLERANCE, ITERATIONS = 1e-5, 2000
"""EM stops when no probability moves by more, or after so many rounds."""


def adapt(posteriors: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the posteriors (N, K) under the prior `target` (K,) of a classifier with `posteriors` under `source`.

    p_t(y | x) = p_s(y | x) t(y) / s(y), over its sum over y (their equation 2.4). `source` is above 0 everywhere.
    """
    joint = posteriors * (target / source)
    return joint / np.maximum(joint.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)


def estimate_priors(
    posteriors: np.ndarray,
    source: np.ndarray,
    counts: np.ndarray,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> np.ndarray:
    """Return the class priors (S, K) of samples of unlabelled images, by EM from the source prior.

    Each round adapts the posteriors to the priors so far, and takes their mean as the next priors (their equation 2.9):
    it climbs the likelihood of the images, which has one top only.

    Args:
        posteriors: (N, K) under the source prior.
        source: (K,), above 0 everywhere.
        counts: (S, N), how often each image is in each sample.
        tolerance: a sample is finished when none of its priors moves by more.
        iterations: the most rounds.
    """
    ratio = posteriors / source
    share = counts / counts.sum(axis=1, keepdims=True)
    priors = np.tile(source, (len(counts), 1))
    moving = np.arange(len(counts))
    for _ in range(iterations):
        density = np.maximum(priors[moving] @ ratio.T, np.finfo(np.float64).tiny)
        new = priors[moving] * ((share[moving] / density) @ ratio)
        new /= new.sum(axis=1, keepdims=True)  # rounding
        change = np.abs(new - priors[moving]).max(axis=1)
        priors[moving] = new
        moving = moving[change > tolerance]
        if not len(moving):
            break
    return priors
