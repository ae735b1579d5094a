"""Tests and intervals of differences against enumeration, against loops, and against the truth in simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from ops.evaluate.intervals import group_gap, resampled
from ops.evaluate.significance import bootstrap_mean, holm, mcnemar, mean_effect, mean_squares, statistic_effect


def test_mcnemar_is_the_binomial_test_on_discordant_pairs():
    gained, lost = np.meshgrid(np.arange(15), np.arange(15))
    found = mcnemar(gained, lost)
    assert found.shape == (15, 15)
    assert found[0, 0] == 1.0
    for b, c, p in zip(gained.flat, lost.flat, found.flat, strict=True):
        expected = binomtest(int(b), int(b + c), 0.5).pvalue if b + c else 1.0
        assert p == pytest.approx(expected, abs=1e-12)
    assert mcnemar(np.array(1200), np.array(1000)) == pytest.approx(binomtest(1200, 2200).pvalue)


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (1, 4), (6, 1), (3, 3), (0, 7)])
def test_mcnemar_by_enumeration(gained, lost):
    """Of all ways in which the discordant pairs could have fallen, those that are at least as uneven."""
    pairs = gained + lost
    uneven = [abs(2 * sum(way) - pairs) >= abs(gained - lost) for way in product((0, 1), repeat=pairs)]
    assert mcnemar(np.array(gained), np.array(lost)) == pytest.approx(np.mean(uneven))


@pytest.mark.parametrize("shape", [(7, 3), (2, 2), (40, 5)])
def test_mean_squares_by_loops(shape):
    d = np.random.default_rng(0).normal(size=shape)
    (n, s), mean = shape, d.mean()
    of_images = of_seeds = of_both = 0.0
    for i in range(n):
        of_images += s * (sum(d[i]) / s - mean) ** 2 / (n - 1)
        for j in range(s):
            of_both += (d[i, j] - sum(d[i]) / s - sum(d[:, j]) / n + mean) ** 2 / ((n - 1) * (s - 1))
    for j in range(s):
        of_seeds += n * (sum(d[:, j]) / n - mean) ** 2 / (s - 1)
    found = mean_squares(d)
    assert (found.images, found.seeds, found.both) == pytest.approx((of_images, of_seeds, of_both))
    # nothing is lost: the sums of squares add up
    total = found.images * (n - 1) + found.seeds * (s - 1) + found.both * (n - 1) * (s - 1)
    assert total == pytest.approx(((d - mean) ** 2).sum())
    effect = mean_effect(d)
    variance = max(of_images + of_seeds - of_both, of_images, of_seeds) / (n * s)
    parts = of_images**2 / (n - 1) + of_seeds**2 / (s - 1) + of_both**2 / ((n - 1) * (s - 1))
    assert effect.df == pytest.approx(max((variance * n * s) ** 2 / parts, s - 1))


def as_t_test(found, sample):
    """Say that an effect is that of Student's test on a sample."""
    expected = ttest_1samp(sample, 0)
    interval = expected.confidence_interval(0.95)
    numbers = (found.effect, found.low, found.high, found.p, found.df)
    assert numbers == pytest.approx((sample.mean(), interval.low, interval.high, expected.pvalue, len(sample) - 1))


def test_the_limits_are_students_test():
    """On images if seeds agree, on seeds if images agree, and on images where there is one seed."""
    rng = np.random.default_rng(1)
    images, seeds = rng.normal(0.1, 1, 60), rng.normal(0.1, 1, 4)
    as_t_test(mean_effect(np.repeat(images[:, None], 3, axis=1)), images)
    as_t_test(mean_effect(np.repeat(seeds[None], 60, axis=0)), seeds)
    single = mean_effect(images[:, None])
    as_t_test(single, images)
    assert single.counted == "images only"
    assert mean_effect(np.stack([images, images[::-1]], axis=1)).counted == "images and seeds"


def crossed(rng, n, s, of_images, of_seeds, of_both):
    """Return differences (n, s) with the given standard deviations, around 0."""
    return rng.normal(0, of_images, (n, 1)) + rng.normal(0, of_seeds, s) + rng.normal(0, of_both, (n, s))


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.84), (3, 0.89), (5, 0.915)])
def test_intervals_over_images_and_seeds_hold_the_truth(seeds, least):
    """Seeds add twice as much spread to the mean as images: there two seeds do worst, and images alone fail."""
    rng, trials = np.random.default_rng(2), 500
    of_seeds = 2 * np.sqrt((0.3**2 + 0.3**2 / seeds) / 80 * seeds)
    hits = only_images = 0
    for trial in range(trials):
        d = crossed(rng, 80, seeds, 0.3, of_seeds, 0.3)
        found = mean_effect(d)
        hits += found.low <= 0 <= found.high
        assert (found.p >= 0.05) == (found.low <= 0 <= found.high)
        _, low, high = bootstrap_mean(d, 200, trial)
        only_images += low <= 0 <= high
    assert least <= hits / trials <= 0.98
    assert only_images / trials < 0.7


def test_without_variation_of_seeds_little_is_lost():
    """Each model finds other images easy, whatever the seed: intervals are hardly wider than over images only."""
    rng, wider, hits = np.random.default_rng(3), [], 0
    for trial in range(300):
        easy = np.where(rng.random((2, 150, 1)) < 0.7, 0.95, 0.1)
        first, second = (rng.random((2, 150, 3)) < easy).astype(float)
        found, (_, low, high) = mean_effect(first - second), bootstrap_mean(first - second, 200, trial)
        wider.append((found.high - found.low) / (high - low))
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / 300 <= 0.99
    assert 1 <= np.median(wider) < 1.15


def test_a_gap_with_seeds_as_a_random_effect():
    """The gap of group 1 varies between seeds: over images and seeds the truth is held, over images only not."""
    rng, groups, seeds = np.random.default_rng(4), np.repeat([0, 1], [60, 40]), 4
    gap, trials, hits, only_images = group_gap(groups), 200, 0, 0
    for trial in range(trials):
        shift = np.stack([np.zeros(seeds), rng.normal(0, 0.12, seeds)])[groups]
        values = (rng.random((100, seeds)) < np.where(groups, 0.4, 0.9)[:, None] + shift).astype(float)

        def by_seed(v):
            return np.stack([gap(v[..., s]) for s in range(seeds)], axis=1)

        found = by_seed(values[None])[0]
        replicates = resampled(lambda v: by_seed(v).mean(axis=1), values, groups, 200, trial)
        effect = statistic_effect(found.mean(), found, replicates, 100)
        hits += effect.low <= 0.5 <= effect.high
        low, high = np.percentile(replicates, [2.5, 97.5])
        only_images += low <= 0.5 <= high
    assert 0.91 <= hits / trials <= 1
    assert only_images / trials < 0.87


def test_a_mean_as_a_general_statistic_is_a_little_wider():
    """Its variance is (MS_I + MS_S) / (N S): the residual counts twice."""
    d = crossed(np.random.default_rng(5), 120, 4, 0.3, 0.02, 0.4)
    replicates = resampled(lambda v: v.mean(axis=(1, 2)), d, np.zeros(120), 20_000, 0)
    found, exact, square = statistic_effect(d.mean(), d.mean(axis=0), replicates, 120), mean_effect(d), mean_squares(d)
    variance = (square.images * 119 / 120 + square.seeds) / 480  # a bootstrap divides by N
    parts = (square.images * 119 / 120) ** 2 / 119 + square.seeds**2 / 3
    assert found.df == pytest.approx((480 * variance) ** 2 / parts, rel=0.03)
    assert found.high - found.low > exact.high - exact.low
    single = statistic_effect(d[:, 0].mean(), d[:1, 0], replicates, 120)
    assert (single.df, single.counted) == (119, "images only")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_procedure_rejects(p, level):
    """Step down: reject the smallest while p <= level / (hypotheses left); the first failure ends it."""
    assume(all(abs(q * k - level) > 1e-9 for q in p for k in range(1, len(p) + 1)))
    rejected, left = set(), sorted(range(len(p)), key=lambda i: p[i])
    while left and p[left[0]] <= level / len(left):
        rejected.add(left.pop(0))
    adjusted = holm(np.array(p))
    assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert ((adjusted >= p) & (adjusted <= 1)).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_holm_of_an_example_and_of_nothing():
    """Holm's p-values of R's `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")`."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(holm(np.array([]))) == 0


def test_where_nothing_varies():
    none = mean_effect(np.zeros((50, 3)))
    assert (none.effect, none.low, none.high, none.p) == (0, 0, 0, 1)
    always = mean_effect(np.ones((50, 3)))
    assert (always.effect, always.low, always.high, always.p) == (1, 1, 1, 0)
    flat = statistic_effect(0.0, np.zeros(2), np.zeros(100), 50)
    assert (flat.low, flat.high, flat.p) == (0, 0, 1)
    assert bootstrap_mean(np.zeros((50, 3)), 100, 0) == (0, 0, 0)


def test_two_images_are_the_least():
    found = mean_effect(np.array([[1.0, 0.0], [0.0, -1.0]]))
    assert found.effect == 0
    assert found.low < -1
    assert found.p == 1
    for few in (np.ones((1, 3)), np.ones((1, 1))):
        with pytest.raises(ValueError, match="two are the least"):
            mean_effect(few)
    with pytest.raises(ValueError, match="two are the least"):
        statistic_effect(0.0, np.zeros(2), np.zeros(100), 1)
