"""Temperature scaling: the closed form for one margin, recovery of a known temperature, and what cannot be fitted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from ops.evaluate.calibration import debiased_calibration_error
from ops.evaluate.temperature import RANGE, fit_temperature, scaled_probabilities


@given(margin=st.floats(0.1, 3), right=st.integers(51, 99))
def test_one_margin_has_a_closed_form(margin, right):
    """With logits (m, 0) for all images, `right` of 100 in the first class, the best sigmoid(m / T) is that share."""
    logits = np.tile([margin, 0.0], (100, 1))
    labels = (np.arange(100) >= right).astype(int)
    share = right / 100
    assert fit_temperature(logits, labels) == pytest.approx(margin / np.log(share / (1 - share)), rel=1e-2)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_and_removes_the_error(temperature):
    """Labels drawn from softmax(z): a model that says z * T is calibrated again at T."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, (20_000, 5))
    labels = (softmax(z, axis=1).cumsum(axis=1) < rng.random((len(z), 1))).sum(axis=1)
    said = z * temperature
    found = fit_temperature(said[:10_000], labels[:10_000])
    assert found == pytest.approx(temperature, rel=0.05)
    rest, truth = said[10_000:], labels[10_000:]

    def error(probabilities):
        right = probabilities.argmax(axis=1) == truth
        return debiased_calibration_error(probabilities.max(axis=1), right, 100, 0)

    assert error(scaled_probabilities(rest, found))[0] < 0.02
    if temperature != 1:
        assert error(softmax(rest, axis=1))[1] > 0.05


def test_a_constant_in_a_row_does_not_matter():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    moved = logits + rng.normal(0, 50, (200, 1))
    assert fit_temperature(moved, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-4)
    assert scaled_probabilities(moved, 2.0) == pytest.approx(scaled_probabilities(logits, 2.0))


def test_a_model_that_is_always_right_or_knows_nothing_is_at_an_end():
    logits, labels = np.eye(3)[[0, 1, 2] * 5] * 4, np.array([0, 1, 2] * 5)
    assert fit_temperature(logits, labels) < 0.1, "below, the likelihood is 1 in double precision"
    assert fit_temperature(logits, (labels + 1) % 3) == pytest.approx(RANGE[1], rel=1e-3)
    with pytest.raises(ValueError, match="needs images"):
        fit_temperature(logits[:0], labels[:0])
