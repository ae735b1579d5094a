"""Intervals against other implementations, and against the truth in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from ops.evaluate.intervals import bootstrap, group_gap, wilson


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_formula(case):
    k, n = case
    z, p = norm.ppf(0.975), k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson(k, n) == pytest.approx((p, max(0, centre - half), min(1, centre + half)), abs=1e-9)


def test_nothing_observed_is_no_number():
    assert np.isnan(wilson(0, 0)).all()


def mean(values):
    return values.mean(axis=1)


def test_the_bootstrap_of_a_mean_is_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(mean, values, np.zeros(400), 4000, 1)
    half = 1.96 * values.std() / 20
    assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), abs=0.03)


def test_the_bootstrap_covers_the_truth():
    """Of 300 samples, 95 % of the intervals of a stratified difference hold the true one (91 to 98 % by chance)."""
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], [60, 90])

    def difference(values):
        return values[:, strata == 1].mean(axis=1) - values[:, strata == 0].mean(axis=1)

    hits = 0
    for trial in range(300):
        values = rng.random(150) < np.where(strata, 0.7, 0.4)
        _, low, high = bootstrap(difference, values.astype(float), strata, 400, trial)
        hits += low <= 0.3 <= high
    assert 0.91 <= hits / 300 <= 0.985


def test_rows_are_resampled_whole_and_within_strata():
    """A statistic that sees a torn row or a changed stratum size would notice."""
    values = np.stack([np.arange(30), 2 * np.arange(30)], axis=1).astype(float)
    strata = np.repeat([0, 1, 2], 10)

    def check(resampled):
        assert (resampled[..., 1] == 2 * resampled[..., 0]).all()
        for s in range(3):
            inside = (resampled[..., 0] >= 10 * s) & (resampled[..., 0] < 10 * (s + 1))
            assert (inside.sum(axis=1) == 10).all()
            assert inside[:, strata == s].all()
        return resampled[..., 0].mean(axis=1)

    assert bootstrap(check, values, strata, 300, 0) == bootstrap(check, values, strata, 300, 0)


def test_gap_by_hand():
    groups = np.array(["a", "a", "b", "b", "b", "b"])
    outcomes = np.array([[1, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    assert group_gap(groups)(outcomes).tolist() == [0.25, 1.0]
