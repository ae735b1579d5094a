"""Kernel distances against loops over pairs, torchmetrics, and what unbiased means."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from ops.generate.quality import kernel as module
from ops.generate.quality.groups import discrepancy_gap
from ops.generate.quality.kernel import cubic, discrepancy, gaussian_kernel, normalised, scaled


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def by_loops(x, y, k) -> float:
    """Return the mean over all pairs, one pair at a time."""
    xx = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return float(xx + yy - 2 * np.mean([k(a, b) for a in x for b in y]))


def cube(a, b):
    return (np.dot(a, b) / len(a) + 1) ** 3


def bell(a, b):
    return np.exp(-((a - b) ** 2).sum() / (2 * 0.7**2))


@pytest.mark.parametrize(("kernel", "pair"), [(cubic, cube), (gaussian_kernel(0.7), bell)])
def test_it_is_the_mean_over_pairs(kernel, pair, monkeypatch):
    x, y = normalised(normal(12, 5)), normalised(normal(9, 5, seed=1) + 0.5)
    expected = by_loops(x, y, pair)
    assert discrepancy(x, y, kernel).value == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(module, "CHUNK", 4)
    assert discrepancy(x, y, kernel).value == pytest.approx(expected, rel=1e-9), "blocks change nothing"


def test_it_is_that_of_torchmetrics():
    class Given(nn.Module):
        num_features = 6

        def forward(self, x):
            return x.flatten(1).double()

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 200, (40, 6)), rng.integers(50, 256, (40, 6))
    metric = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=40)
    for pixels, real in ((x, True), (y, False)):
        metric.update(torch.from_numpy(pixels).to(torch.uint8).view(40, 3, 2, 1), real=real)
    assert discrepancy(x, y, cubic).value == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_the_gaussian_one_is_cmmd_but_for_pairs_of_one_image():
    x, y = normalised(normal(30, 8)), normalised(normal(30, 8, seed=1) + 0.3)

    def k(a, b):  # as published, sigma 10
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / 200)

    biased = 1000 * (k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean())
    own = 1000 * sum((1 - (k(z, z).sum() - 30) / (30 * 29)) / 30 for z in (x, y))
    found = scaled(discrepancy(x, y, gaussian_kernel(10)), 1000)
    assert found.value == pytest.approx(biased - own, rel=1e-6)
    mean_shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    assert biased == pytest.approx(1000 * mean_shift / 100, rel=0.02), "at this bandwidth it sees means"


@pytest.mark.parametrize("kernel", [cubic, gaussian_kernel(0.7)])
def test_draws_of_one_distribution_are_on_both_sides_of_zero(kernel):
    found = [
        discrepancy(normalised(normal(20, 4, s)), normalised(normal(35, 4, s + 5000)), kernel).value for s in range(300)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / 300**0.5
    assert 0.2 < np.mean(np.array(found) < 0) < 0.8


def test_influences_are_those_of_leaving_an_image_out():
    x, y = normal(8, 3), normal(11, 3, seed=1) + 0.4
    found = discrepancy(x, y, cubic)
    for sample, moved in enumerate(found.moved):
        without = []
        for i in range(len(moved)):
            pair = [x, y]
            pair[sample] = np.delete(pair[sample], i, axis=0)
            without.append(discrepancy(*pair, cubic).value)
        expected = (len(moved) - 1) * (np.mean(without) - np.array(without))
        np.testing.assert_allclose(moved, expected, rtol=1e-7, atol=1e-9)


def test_the_error_is_how_much_estimates_vary():
    def draw(seed):
        return discrepancy(normal(150, 4, seed), normal(100, 4, seed + 5000) + 0.5, cubic)

    spread = np.std([draw(seed).value for seed in range(150)])
    assert np.mean([draw(seed).error() for seed in range(10)]) == pytest.approx(spread, rel=0.25)
    value, low, high = draw(0).interval()
    assert high - value == pytest.approx(1.96 * draw(0).error(), rel=1e-3)
    assert low < value < high


def test_intervals_hold_the_truth_where_there_is_no_distance():
    found = [discrepancy(normal(40, 4, seed), normal(40, 4, seed + 5000), cubic).interval() for seed in range(300)]
    assert np.mean([low <= 0 <= high for _, low, high in found]) > 0.93


def test_zero_features_stay_zero():
    assert np.isfinite(normalised(np.zeros((2, 3)))).all()


def test_the_gap_varies_as_the_groups_do():
    def groups(seed):
        return {
            "near": discrepancy(normal(120, 3, seed), normal(120, 3, seed + 5000), cubic),
            "far": discrepancy(normal(80, 3, seed + 9000), normal(80, 3, seed + 7000) + 1.0, cubic),
        }

    gaps = [discrepancy_gap(groups(seed), 1, 0)[0] for seed in range(80)]
    value, low, high = discrepancy_gap(groups(0), 2000, 1)
    expected = groups(0)
    assert value == pytest.approx(abs(expected["far"].value - expected["near"].value))
    assert low < value < high
    assert (high - low) / 4 == pytest.approx(np.std(gaps), rel=0.35)
