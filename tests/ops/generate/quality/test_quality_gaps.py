"""Intervals of gaps between groups hold the true gap, in simulations where it is known."""

import numpy as np
import pytest

from ops.generate.quality.groups import discrepancy_gap, gap_interval
from ops.generate.quality.kernel import discrepancy

TRIALS, REPLICATES = 200, 300


def held(intervals, truth: float) -> float:
    """Return the share of intervals that hold the truth; each must hold its estimate."""
    found = np.array(intervals)
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 0] <= found[:, 2]).all()
    return float(np.mean((found[:, 1] - 1e-9 <= truth) & (truth <= found[:, 2] + 1e-9)))


@pytest.mark.parametrize("shares", [[0.6] * 6, [0.95] * 4, [0.35] + [0.6] * 5], ids=["equal", "high", "one is low"])
def test_gaps_of_shares(shares):
    rng, groups = np.random.default_rng(0), np.repeat([f"g{g}" for g in range(len(shares))], 60)
    drawn = rng.random((TRIALS, len(groups))) < np.repeat(shares, 60)
    found = [gap_interval(groups, outcomes, REPLICATES, seed) for seed, outcomes in enumerate(drawn)]
    assert held(found, np.ptp(shares)) >= 0.93


def linear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return x . y: with this kernel the squared discrepancy is the squared distance of the means."""
    return x @ y.T


@pytest.mark.parametrize("shifts", [[0.0] * 6, [0.5] * 6, [0.0, 0.5, 0.6, 0.6]], ids=["none", "equal", "one is near"])
def test_gaps_of_kernel_distances(shifts):
    rng, found = np.random.default_rng(0), []
    for seed in range(TRIALS):
        groups = {
            str(g): discrepancy(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + shift, linear)
            for g, shift in enumerate(shifts)
        }
        found.append(discrepancy_gap(groups, REPLICATES, seed))
    assert held(found, 3 * np.ptp(np.square(shifts))) >= 0.93


def test_distances_are_not_cut_at_one():
    rng = np.random.default_rng(0)
    groups = {
        name: discrepancy(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + shift, linear)
        for name, shift in (("near", 0.0), ("far", 3.0))
    }
    value, low, high = discrepancy_gap(groups, REPLICATES, 0)
    assert 1 < low < value < high
