"""Calibration error: torchmetrics, models whose error is known, and the bias that is taken off."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from ops.evaluate.calibration import debiased_calibration_error, expected_calibration_error, reliability


def draw(count, seed=0, shift=0.0):
    """Return confidences that are uniform in [0.5, 0.9], and outcomes that are right with probability confidence - shift."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 0.9, count)
    return confidence, rng.random(count) < confidence - shift


def debiased(confidence, right, bins=15):
    return debiased_calibration_error(confidence, right, 100, 0, bins)


def test_one_bin_is_the_difference_of_means():
    confidence, right = draw(500)
    gap = abs(confidence.mean() - right.mean())
    assert expected_calibration_error(confidence, right, bins=1) == pytest.approx(gap)
    square = gap**2 - right.mean() * (1 - right.mean()) / 499
    assert debiased(confidence, right, bins=1)[0] == pytest.approx(max(square, 0) ** 0.5)


def test_it_is_torchmetrics_where_bins_agree():
    """Confidences in the middle of ten equally full bins of equal width are in the same bins on both sides."""
    confidence = np.repeat((np.arange(10) + 0.5) / 10, 40)
    right = np.random.default_rng(0).random(400) < 0.6
    # of two classes, the probability of the first; its target is whether the prediction is right
    theirs = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right.astype(int)), n_bins=10)
    ours = expected_calibration_error(confidence, right, bins=10)
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_bins_are_equally_full():
    confidence, right = draw(1000)
    found = reliability(confidence, right)
    assert set(found.count) <= {66, 67}
    assert found.count.sum() == 1000
    assert (np.diff(found.confidence) > 0).all()
    assert (found.count * found.accuracy).sum() == pytest.approx(right.sum())
    assert reliability(confidence[:3], right[:3]).count.tolist() == [1, 1, 1]


def test_the_bias_is_taken_off():
    """A calibrated model: the plain error is far from 0 in small samples, the square of the debiased one is not."""
    plain = [expected_calibration_error(*draw(150, seed)) for seed in range(200)]
    unbiased = [debiased(*draw(150, seed))[0] for seed in range(200)]
    assert np.mean(plain) > 0.08
    assert np.median(unbiased) < 0.04
    assert np.mean(unbiased) < 0.6 * np.mean(plain)


def test_overconfidence_is_measured_and_its_interval_holds_it():
    found = [debiased(*draw(600, seed, shift=0.2)) for seed in range(60)]
    assert np.mean([value for value, _, _ in found]) == pytest.approx(0.2, abs=0.01)
    assert np.mean([low <= 0.2 <= high for _, low, high in found]) > 0.85
