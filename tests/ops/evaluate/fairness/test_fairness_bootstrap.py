"""Bootstrap samples by weights against samples by images, and intervals against the truth in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from ops.evaluate.fairness.extremes import (
    difference_interval,
    gap_interval,
    highest_interval,
    lowest_interval,
    spread_interval,
    standard_errors,
)
from ops.evaluate.fairness.resampling import CELLS, by_group, intervals, resampled_shares, weights
from ops.evaluate.intervals import group_gap, resampled, wilson, wilson_intervals


def test_weights_say_how_often_each_image_is_drawn():
    """Multinomial: they sum to the number of images, with mean 1 and variance 1 - 1 / n; the sample itself is first."""
    found = np.concatenate(list(weights(40, 5000, 0)), axis=1)
    assert found.shape == (40, 5001)
    assert (found[:, 0] == 1).all()
    assert (found.sum(axis=0) == 40).all()
    drawn = found[:, 1:]
    assert drawn.mean(axis=1) == pytest.approx(np.ones(40), abs=0.08)
    assert drawn.var() == pytest.approx(1 - 1 / 40, rel=0.02)


def test_chunks_bound_memory():
    sizes = [w.size for w in weights(CELLS // 3, 8, 0)]
    assert max(sizes) <= CELLS
    assert sum(sizes) == 9 * (CELLS // 3)


def test_samples_by_weights_are_samples_of_images():
    """Gap and worst group of outcomes in three groups, against images drawn one by one (Kolmogorov and Smirnov)."""
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2], [60, 30, 90])
    right = rng.random(180) < np.array([0.8, 0.5, 0.7])[groups]
    members = [right[groups == g].astype(np.float64) for g in range(3)]
    found = by_group(lambda g, w: {"accuracy": members[g] @ w / len(members[g])}, [60, 30, 90], 4000, [7, 8, 9])
    values = found["accuracy"]
    assert values.shape == (4001, 3)
    assert values[0] == pytest.approx([m.mean() for m in members])
    by_image = resampled(group_gap(groups), right.astype(float), groups, 4000, 3).round(9)
    gaps = np.ptp(values[1:], axis=1).round(9)
    assert ks_2samp(gaps, by_image).pvalue > 0.01
    counts = np.array([60, 30, 90])
    binomial = resampled_shares(np.rint(values[0] * counts), counts, 4000, 4)
    assert ks_2samp(gaps, np.ptp(binomial[1:], axis=1).round(9)).pvalue > 0.01
    assert (binomial[0] == values[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**30))
def test_intervals_hold_their_estimate(seed):
    """Whatever the groups: sizes, shares of 0 and 1, and samples in which a group is missing."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 60, rng.integers(2, 8))
    successes = rng.binomial(counts, rng.choice([0.0, 0.5, 0.9, 1.0], len(counts)))
    values = resampled_shares(successes, counts, 100, seed)
    values[1:, 0][rng.random(100) < 0.05] = np.nan
    errors = standard_errors(values, counts, share=True)
    shares = successes / counts
    for (value, low, high), expected in (
        (gap_interval(values, errors), np.ptp(shares)),
        (lowest_interval(values, errors), shares.min()),
        (highest_interval(values, errors), shares.max()),
        (spread_interval(np.nanstd(values, axis=1)), shares.std()),
    ):
        assert value == pytest.approx(expected)
        assert -1e-12 <= low <= value + 1e-12 <= high + 2e-12 <= 1 + 3e-12
    low, high = intervals(values)[1:]
    assert (low <= shares).all()
    assert (shares <= high).all()


@pytest.mark.parametrize("truth", [[0.6] * 6, [0.35, 0.6, 0.6, 0.6, 0.6, 0.6], [0.3, 0.9], [0.55, 0.6] * 5])
def test_intervals_of_extremes_hold_the_truth(truth):
    """95 % of them, or nearly: at least 91 % of 300, for gap and worst group, whether or not groups differ."""
    rng, truth = np.random.default_rng(0), np.array(truth)
    counts, held = np.full(len(truth), 60), np.zeros(3)
    for trial in range(300):
        values = resampled_shares(rng.binomial(counts, truth), counts, 400, trial)
        errors = standard_errors(values, counts, share=True)
        for number, (interval, exact) in enumerate(
            (
                (gap_interval(values, errors), np.ptp(truth)),
                (lowest_interval(values, errors), truth.min()),
                (highest_interval(values, errors), truth.max()),
            )
        ):
            held[number] += interval[1] - 1e-9 <= exact <= interval[2] + 1e-9
    assert (held / 300 >= 0.91).all(), held / 300


def test_percentiles_of_a_gap_do_not():
    """Why there are other intervals: six groups that do not differ, and no interval of percentiles says so."""
    rng, counts, held = np.random.default_rng(0), np.full(6, 60), 0
    for trial in range(100):
        values = resampled_shares(rng.binomial(counts, 0.6), counts, 400, trial)
        held += intervals(np.ptp(values, axis=1))[1] <= 0.01
    assert held == 0


def test_a_difference_of_estimates_has_the_interval_of_independent_ones():
    """Of two means the usual one, and of lopsided intervals the long arm counts where it matters."""
    assert difference_interval((0.5, 0.2, 0.8), (0.1, -0.3, 0.5)) == pytest.approx((0.4, -0.1, 0.9))
    value, low, high = difference_interval((0.5, 0.5, 0.9), (0.1, 0.1, 0.2))
    assert (value, value - low, high - value) == pytest.approx((0.4, 0.1, 0.4))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=9)
)
def test_many_wilson_intervals_are_those_of_scipy(cases):
    successes, counts = np.array(cases).T
    expected = np.array([wilson(int(k), int(n)) for k, n in cases]).T
    np.testing.assert_allclose(wilson_intervals(successes, counts), expected, atol=1e-9)
