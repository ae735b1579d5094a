"""The measures of one group, of many bootstrap samples at once: sums of weights, which are matrix products."""

import numpy as np

from ops.evaluate.calibration import debiased_from_sums, equal_bins
from ops.evaluate.fairness.auroc import weighted_auroc
from ops.evaluate.fairness.evidence import Evidence
from ops.evaluate.fairness.names import (
    ACCURACY,
    AUROC,
    CALIBRATION,
    HIGH_RISK,
    SCALED,
    SELECTION,
    SENSITIVITY,
    SPECIFICITY,
)


def whole_statistics(evidence: Evidence, bins: int, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, calibration errors and high-risk sensitivity (R,) of samples in which images weigh `weights` (n, R).

    High-risk sensitivity is the share of images of high-risk classes that the model calls high-risk, of whichever of these
    classes: what must not be missed was not missed. Calibration errors have `bins` bins of equal size, those of the sample.
    """
    right, risky, alarmed = _sums(evidence.right, weights), evidence.risky, evidence.alarmed
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            ACCURACY: right / weights.sum(axis=0, dtype=np.float64),
            HIGH_RISK: _sums(risky & alarmed, weights) / _sums(risky, weights),
            CALIBRATION: _calibration(evidence.confidence, evidence.right, bins, weights),
            SCALED: _calibration(evidence.scaled_confidence, evidence.right, bins, weights),
        }


def target_statistics(evidence: Evidence, ranked: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return AUROC, sensitivity, specificity and selection rate (R, T) of samples in which images weigh `weights` (n, R).

    Sensitivity is the share of positives that the model chooses, specificity that of negatives that it does not, the
    selection rate that of all images that it chooses. AUROC is nan for targets that are not `ranked` (T,) bool.
    """
    positive, chosen = evidence.positive, evidence.chosen
    images, positives = weights.sum(axis=0, dtype=np.float64), _sums(positive.T, weights)
    area = np.full((positive.shape[1], weights.shape[1]), np.nan)
    for t in np.flatnonzero(ranked):
        area[t] = weighted_auroc(evidence.scores[:, t], positive[:, t], weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            AUROC: area,
            SENSITIVITY: _sums((positive & chosen).T, weights) / positives,
            SPECIFICITY: _sums(~(positive | chosen).T, weights) / (images - positives),
            SELECTION: _sums(chosen.T, weights) / images,
        }
    return {name: values.T for name, values in found.items()}


def shared_bins(smallest: int, most: int) -> int:
    """Return in how many bins all groups of an axis are divided: at most `most`, ten images in each of the smallest group.

    The more bins, the larger the error: with bins of its own a small group would look better calibrated than it is.
    """
    return int(np.clip(smallest // 10, 1, most))


def _sums(which: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight (..., R) float64 of the images that `which` (..., n) bool has; exact up to 2^24 of them."""
    summed: np.ndarray = (which.astype(np.float32) @ weights).astype(np.float64)
    return summed


def _calibration(confidence: np.ndarray, right: np.ndarray, bins: int, weights: np.ndarray) -> np.ndarray:
    """Return the debiased calibration error (R,); see `calibration.debiased_calibration_error`."""
    places = equal_bins(confidence, bins)
    inside = places == np.arange(places.max() + 1)[:, None]
    mean = (inside @ confidence) / inside.sum(axis=1)
    # float32 is exact for whole numbers, and near enough for what is left of a confidence without the mean of its bin
    summed = np.concatenate([inside, inside & right, inside * (confidence - mean[places])]).astype(np.float32) @ weights
    count, correct, rest = summed.astype(np.float64).reshape(3, len(inside), -1).transpose(0, 2, 1)
    return debiased_from_sums(count, count * mean + rest, correct)
