"""Do probabilities mean what they say? Calibration error without its bias, and what is under the reliability diagram."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.intervals import Interval, bootstrap

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Images in bins of equal size by confidence; arrays (bins,)."""

    confidence: np.ndarray
    """Mean confidence in the bin, in [0, 1]."""
    accuracy: np.ndarray
    """Share of right predictions in the bin."""
    count: np.ndarray
    """Images in the bin."""


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Return the reliability diagram of predictions with `confidence` (N,) in [0, 1], the largest probability, and `right`.

    Bins hold equally many images (Nguyen and O'Connor 2015): with bins of equal width most would be nearly empty.
    """
    sums = _sums(_in_bins(confidence, right, bins)[None])[0]
    return Reliability(sums[1] / sums[0], sums[2] / sums[0], sums[0])


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Return ECE = sum_b n_b / N |accuracy_b - confidence_b| (Naeini et al. 2015), with bins of equal size.

    Biased upwards: a calibrated model has an error above 0 in any finite sample.
    """
    found = reliability(confidence, right, bins)
    return float((found.count * np.abs(found.accuracy - found.confidence)).sum() / found.count.sum())


def debiased_calibration_error(
    confidence: np.ndarray, right: np.ndarray, replicates: int, seed: int, bins: int = BINS
) -> Interval:
    """Return sqrt(sum_b n_b / N [(accuracy_b - confidence_b)^2 - accuracy_b (1 - accuracy_b) / (n_b - 1)]), at least 0.

    The root mean square calibration error less what chance alone adds in each bin (Kumar et al. 2019, Verified
    uncertainty calibration), with its bootstrap interval over images; bins stay those of the sample. Resampling adds noise
    of its own, so that intervals reach further up than down.
    """
    values = _in_bins(confidence, right, bins)
    value, low, high = bootstrap(_debiased, values, np.zeros(len(values)), replicates, seed)
    return value, min(low, value), max(high, value)


def _in_bins(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """Return (N, 3): confidence, whether the prediction is right, and the number of the bin."""
    return np.stack([confidence, right.astype(np.float64), equal_bins(confidence, bins)], axis=1)


def equal_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of the bin (N,) int64 of each image: at most `bins` of equal size, by confidence (N,)."""
    places = np.empty(len(confidence), np.int64)
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
    for number, part in enumerate(parts):
        places[part] = number
    return places


def _sums(values: np.ndarray) -> np.ndarray:
    """Return images, confidences and right predictions (R, 3, bins), summed by bin, of samples (R, N, 3)."""
    bins = int(values[..., 2].max()) + 1
    places = (np.arange(len(values))[:, None] * bins + values[..., 2].astype(np.int64)).ravel()
    size = len(values) * bins
    weights = (None, values[..., 0].ravel(), values[..., 1].ravel())
    return np.stack([np.bincount(places, w, size).reshape(-1, bins) for w in weights], axis=1).astype(np.float64)


def _debiased(values: np.ndarray) -> np.ndarray:
    """Return the debiased error (R,) of samples (R, N, 3)."""
    return debiased_from_sums(*_sums(values).transpose(1, 0, 2))


def debiased_from_sums(count: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the debiased error (R,) of samples whose images, confidences and right predictions are summed by bin (R, bins).

    Bins with fewer than two images do not count.
    """
    several = count > 1
    safe = np.where(several, count, 2)
    accuracy = right / safe
    square = (accuracy - confidence / safe) ** 2 - accuracy * (1 - accuracy) / (safe - 1)
    kept = np.where(several, count, 0)
    return np.sqrt(((kept * square).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)).clip(min=0))


def draw_reliability(panels: Mapping[str, Mapping[str, Reliability]], path: Path) -> None:
    """Save accuracy against confidence, a line for each model, and the diagonal, on which a calibrated one would be.

    `panels` has the diagrams by title, side by side, and by model.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, (title, models) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
        for number, (name, found) in enumerate(models.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(found.confidence, found.accuracy, "-o", markersize=3, color=colour, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xlabel("confidence", fontsize=8)
        axes.set_ylabel("accuracy", fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
