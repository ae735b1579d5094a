"""The Fréchet distance against closed forms, another implementation, and what half-samples promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ops.generate.quality import frechet as module
from ops.generate.quality.frechet import frechet, frechet_interval, half_sample_interval


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(0, 4), st.integers(1, 12), st.integers(3, 30))
def test_a_scaled_and_shifted_copy_is_as_far_as_the_formula_says(shift, scale, d, n):
    x = normal(n, d)
    total = np.cov(x, rowvar=False).reshape(d, d).trace()
    # mean m moves to (scale m + shift), and the root of scale^2 S^2 is scale S
    expected = ((scale * x.mean(axis=0) + shift - x.mean(axis=0)) ** 2).sum() + (scale - 1) ** 2 * total
    assert frechet(x, scale * x + shift) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_it_is_the_formula_with_a_matrix_root():
    mix = np.random.default_rng(1).normal(size=(6, 6))
    x, y = normal(50, 6), normal(50, 6, seed=2) @ mix + 1
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet(y, x) == pytest.approx(expected, rel=1e-9)


def test_it_is_that_of_torchmetrics():
    class Flat(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).double()

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 200, (300, 12)), rng.integers(50, 256, (300, 12))
    metric = FrechetInceptionDistance(feature=Flat()).set_dtype(torch.float64)
    for pixels, real in ((x, True), (y, False)):
        metric.update(torch.from_numpy(pixels).to(torch.uint8).view(300, 3, 2, 2), real=real)
    assert frechet(x, y) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_fewer_images_than_features_are_no_trouble():
    x = normal(20, 300)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    left, right = np.zeros((20, 60)), np.zeros((20, 60))
    left[:, :30], right[:, 30:] = normal(20, 30), normal(20, 30, seed=1)
    traces = sum(np.cov(part, rowvar=False).trace() for part in (left, right))
    shift = ((left.mean(0) - right.mean(0)) ** 2).sum()
    assert frechet(left, right) == pytest.approx(shift + traces, rel=1e-12), "no direction is shared"


def test_constant_features_are_a_point():
    assert frechet(np.ones((5, 4)), np.full((5, 4), 3.0)) == pytest.approx(16)


def test_blocks_do_not_change_it(monkeypatch):
    x, y = normal(100, 7), normal(100, 7, seed=1) + 1
    whole = frechet(x, y)
    monkeypatch.setattr(module, "CHUNK", 9)
    assert frechet(x, y) == pytest.approx(whole, rel=1e-12)


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="draw as many"):
        frechet(normal(10, 2), normal(11, 2))


def test_it_falls_with_the_number_of_images_of_one_distribution():
    small, large = ([frechet(normal(n, 20, s), normal(n, 20, s + 100)) for s in range(10)] for n in (50, 400))
    assert min(small) > 2 * max(large), "which is why all are compared at one number"


def test_half_samples_of_a_mean_vary_as_the_mean_does():
    def mean(a, b):
        return float(a.mean() + 10)

    x = normal(300, 1)
    value, low, high = half_sample_interval(mean, x, x, 400, 0)
    assert value == pytest.approx(10 + x.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * x.std() / 300**0.5, rel=0.1)


def test_the_interval_is_as_wide_as_estimates_vary_and_around_the_estimate():
    def draws(seed):
        return normal(200, 4, seed), 1.3 * normal(200, 4, seed + 1000) + 0.5

    estimates = [frechet(*draws(seed)) for seed in range(60)]
    widths = []
    for seed in range(10):
        value, low, high = frechet_interval(*draws(seed), 40, seed)
        assert value - low == pytest.approx(high - value)
        widths.append((high - low) / 2)
    assert np.mean(widths) == pytest.approx(2 * np.std(estimates), rel=0.35)
    assert frechet_interval(*draws(0), 8, 1) == frechet_interval(*draws(0), 8, 1)
    assert frechet_interval(*draws(0), 8, 1) != frechet_interval(*draws(0), 8, 2)
