"""Rectified flow against closed forms."""

import itertools
import math

import pytest
import torch

from ops.generate.flow import guided, interpolate, logit_normal_times, solve, times


def test_interpolation_is_the_straight_path():
    data, noise = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    start, velocity = interpolate(data, noise, torch.zeros(4))
    end, _ = interpolate(data, noise, torch.ones(4))
    torch.testing.assert_close(start, data)
    torch.testing.assert_close(end, noise)
    middle, _ = interpolate(data, noise, torch.full((4,), 0.3))
    torch.testing.assert_close(middle, data + 0.3 * velocity)


def gaussian_velocity(mean: float, std: float):
    """Return the exact velocity E[e - z | x_t = x] for data N(mean, std^2): everything is jointly Gaussian."""

    def velocity(x, t):
        t = t.view(-1, *[1] * (x.dim() - 1))
        variance = ((1 - t) * std) ** 2 + t**2
        gain = (t - (1 - t) * std**2) / variance  # cov(e - z, x_t) / var(x_t)
        return -mean + gain * (x - (1 - t) * mean)

    return velocity


@pytest.mark.parametrize(("heun", "order"), [(False, 1), (True, 2)])
def test_the_solver_has_its_order_on_a_gaussian(heun, order):
    """Exact flow: x_0 = mean + std * x_1. Doubling the steps divides the error by 2 (Euler) or 4 (Heun)."""
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    exact = 1.5 + 0.5 * noise
    errors = [float((solve(gaussian_velocity(1.5, 0.5), noise, n, heun) - exact).abs().max()) for n in (40, 80, 160)]
    assert errors[2] < 0.02
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_samples_have_the_datas_distribution():
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    found = solve(gaussian_velocity(-0.7, 0.3), noise, 16, heun=True)
    assert float(found.mean()) == pytest.approx(-0.7, abs=0.01)
    assert float(found.std()) == pytest.approx(0.3, abs=0.01)


def test_times_are_logit_normal():
    t = logit_normal_times(50_000, torch.Generator().manual_seed(0), mean=0.4, std=0.8)
    assert 0 < float(t.min()) < float(t.max()) < 1
    logits = torch.logit(t.double())
    assert float(logits.mean()) == pytest.approx(0.4, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.8, abs=0.02)


def test_the_grid_ends_at_data_with_equal_steps():
    assert times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_guidance():
    conditional, unconditional = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(guided(conditional, unconditional, 1.0), conditional)
    torch.testing.assert_close(guided(conditional, unconditional, 0.0), unconditional)
    torch.testing.assert_close(guided(conditional, unconditional, 3.0), 3 * conditional - 2 * unconditional)
