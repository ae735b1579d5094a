"""Bias-corrected temperature scaling: what was done to exact posteriors is undone, and EM works again."""

import numpy as np
import pytest
from scipy.stats import norm

from ops.evaluate.shift.adaptation import estimate_priors
from ops.evaluate.shift.calibrating import fit_calibration

MEANS = np.array([-1.5, 0.0, 1.5])
SOURCE, TARGET = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
SLOPE, BIAS = 2.5, np.array([0.8, -0.5, 0.0])


def world(prior, count, seed):
    """Return exact posteriors under SOURCE and labels of numbers that are normal in each class."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=prior)
    x = MEANS[labels] + rng.normal(size=count)
    joint = norm.pdf(x[:, None] - MEANS) * SOURCE
    return joint / joint.sum(axis=1, keepdims=True), labels


def distorted(exact):
    """Return overconfident, biased posteriors."""
    said = exact**SLOPE * np.exp(BIAS)
    return said / said.sum(axis=1, keepdims=True)


def test_a_known_distortion_is_undone():
    """The inverse of p -> p^s e^b / Z has slope 1 / s and biases -b / s, up to a constant."""
    exact, labels = world(SOURCE, 40_000, 0)
    found = fit_calibration(distorted(exact), labels)
    assert found.slope == pytest.approx(1 / SLOPE, rel=0.03)
    assert found.bias - found.bias[2] == pytest.approx(-BIAS / SLOPE, abs=0.05)
    fresh, _ = world(SOURCE, 1000, 1)
    assert found(distorted(fresh)) == pytest.approx(fresh, abs=0.02)


def test_calibrated_posteriors_average_to_the_classes_they_were_fitted_on():
    """The condition for the best biases: the gradient with respect to each is 0."""
    exact, labels = world(SOURCE, 700, 2)
    said = distorted(exact)
    shares = np.bincount(labels) / len(labels)
    assert np.abs(said.mean(axis=0) - shares).max() > 0.03
    assert fit_calibration(said, labels)(said).mean(axis=0) == pytest.approx(shares, abs=1e-4)


def test_em_finds_the_priors_of_a_miscalibrated_classifier():
    exact, labels = world(SOURCE, 20_000, 3)
    shifted = distorted(world(TARGET, 20_000, 4)[0])
    counts = np.ones((1, len(shifted)))
    raw = estimate_priors(shifted, SOURCE, counts)[0]
    mended = estimate_priors(fit_calibration(distorted(exact), labels)(shifted), SOURCE, counts)[0]
    assert np.abs(raw - TARGET).sum() / 2 > 0.05
    assert np.abs(mended - TARGET).sum() / 2 < 0.02


def test_certain_and_separated_classes_stay_finite():
    said, labels = np.eye(3)[[0, 1, 2] * 4], np.array([0, 1, 2] * 4)
    found = fit_calibration(said, labels)
    assert np.isfinite(found(said)).all()
    assert (found(said).argmax(axis=1) == labels).all()
