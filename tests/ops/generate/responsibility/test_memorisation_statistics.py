"""Statistics of copying against enumeration, loops and scipy, and on data whose answer is known."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from ops.errors import AmalgamError
from ops.generate.responsibility import neighbours
from ops.generate.responsibility.copying import (
    authenticity,
    closeness,
    closeness_of_held_out,
    data_copying,
    distance_ratio,
    mann_whitney,
)
from ops.generate.responsibility.neighbours import check_features, count_nearer, nearest, nearest_others


def cloud(seed: int, count: int, dimensions: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions))


@settings(max_examples=25, deadline=None)
@given(queries=st.integers(1, 40), points=st.integers(2, 30), count=st.integers(1, 5), seed=st.integers(0, 99))
def test_neighbours_are_those_of_the_whole_distance_matrix(queries, points, count, seed):
    q, p = cloud(seed, queries), cloud(seed + 1, points)
    p[0] = q[0]
    whole = cdist(q, p)
    distances, places = nearest(q, p, count)
    order = np.argsort(whole, axis=1, kind="stable")[:, :count]
    assert (places == order).all()
    assert distances == pytest.approx(np.take_along_axis(whole, order, axis=1))
    assert distances[0, 0] == 0, "a copy is at 0, not near it"
    others = cdist(p, p)
    np.fill_diagonal(others, np.inf)
    assert nearest_others(p) == pytest.approx(others.min(axis=1))
    radii = whole[:, -1]
    below, within = count_nearer(q, p, radii)
    assert (below == (whole < radii[:, None] - 1e-6).sum(axis=1)).all()
    assert (within == (whole <= radii[:, None] + 1e-6).sum(axis=1)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_of_equal_distances_the_first_places_are_taken(count, seed):
    """On a grid, where the k-th smallest distance is often shared by more points than are taken."""
    q, p = np.random.default_rng(seed).integers(0, 3, (2, 12, 2)).astype(float)
    exact = ((q[:, None] - p[None]) ** 2).sum(axis=2)
    assert nearest(q, p, count)[1].tolist() == exact.argsort(axis=1, kind="stable")[:, :count].tolist()


def test_chunks_do_not_matter(monkeypatch):
    q, p = cloud(0, 300), cloud(1, 500)
    whole = nearest(q, p, 3), nearest_others(p), count_nearer(q, p, np.full(300, 1.0))
    monkeypatch.setattr(neighbours, "MEGABYTES", 0.05)
    parts = nearest(q, p, 3), nearest_others(p), count_nearer(q, p, np.full(300, 1.0))
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_features_are_checked():
    assert check_features(np.ones((3, 2), np.float32), 3, "x").dtype == np.float64
    with pytest.raises(AmalgamError, match=r"features of near have the shape \(3, 2\), not \(4, D\)"):
        check_features(np.ones((3, 2)), 4, "near")
    with pytest.raises(AmalgamError, match="no numbers"):
        check_features(np.full((3, 2), np.nan), 3, "near")


def every_draw(queries, large, small, generated_is_small):
    """Return the share of (query, draw) in which the first set is nearer, over all draws of the larger set; ties half."""
    total, count = 0.0, 0
    for query in queries:
        fixed = cdist(query[None], small).min()
        for draw in combinations(range(len(large)), len(small)):
            drawn = cdist(query[None], large[list(draw)]).min()
            one, other = (fixed, drawn) if generated_is_small else (drawn, fixed)
            total += 1.0 if one < other else 0.5 if one == other else 0.0
            count += 1
    return total / count


def test_closeness_is_the_mean_over_all_draws():
    generated, large, small = np.round(cloud(0, 6, 2)), np.round(cloud(1, 9, 2)), np.round(cloud(2, 4, 2))
    assert closeness(generated, large, small)[0] == pytest.approx(every_draw(generated, large, small, False))
    assert closeness(generated, small, large)[0] == pytest.approx(every_draw(generated, large, small, True))
    assert closeness(generated, large, small)[0] == pytest.approx(1 - closeness(generated, small, large)[0])


def test_closeness_of_held_out_images_leaves_each_out():
    large, small = np.round(cloud(3, 8, 2)), np.round(cloud(4, 5, 2))
    expected = np.mean(
        [every_draw(small[i : i + 1], large, np.delete(small, i, axis=0), False) for i in range(len(small))]
    )
    assert closeness_of_held_out(large, small)[0] == pytest.approx(expected)
    expected = np.mean(
        [every_draw(large[i : i + 1], np.delete(large, i, axis=0), small, True) for i in range(len(large))]
    )
    assert closeness_of_held_out(small, large)[0] == pytest.approx(expected)


def test_closeness_is_a_half_for_honest_samples_and_one_for_copies():
    train, held_out = cloud(0, 600), cloud(1, 600)
    value, low, high = closeness(cloud(2, 1000), train, held_out)
    assert low < 0.5 < high
    assert value == pytest.approx(0.5, abs=0.05)
    assert closeness(train, train, held_out)[0] == 1.0
    assert closeness_of_held_out(train, held_out)[0] == pytest.approx(0.5, abs=0.06)


def test_ratios_of_distances():
    train, held_out, generated = cloud(0, 300), cloud(1, 300), cloud(2, 400)
    ratios = cdist(generated, train).min(axis=1) / cdist(generated, held_out).min(axis=1)
    value, low, high = distance_ratio(generated, train, held_out, 0)
    assert value == pytest.approx(np.median(ratios))
    assert low < 1 < high
    # 95 % of a sample's medians are inside: 400 coins fall on 200 - 19 to 200 + 19
    assert ((ratios < low).sum(), (ratios > high).sum()) == pytest.approx((179, 179), abs=3)
    assert distance_ratio(train, train, held_out, 0) == (0, 0, 0)
    fewer = distance_ratio(generated, train, held_out[:50], 0)
    assert fewer[0] == pytest.approx(1, abs=0.15), "as many of the larger set are taken"
    assert fewer == distance_ratio(generated, train, held_out[:50], 0)


def test_authenticity_by_a_loop():
    train, generated = cloud(0, 40), np.concatenate([cloud(1, 30), cloud(0, 40)[:10]])
    right = 0
    for g in generated:
        to_train = [np.linalg.norm(g - t) for t in train]
        star = int(np.argmin(to_train))
        right += to_train[star] > min(np.linalg.norm(train[star] - t) for i, t in enumerate(train) if i != star)
    distances, places = nearest(generated, train)
    assert authenticity(distances[:, 0], places[:, 0], nearest_others(train))[0] == right / 40


@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_those_of_the_asymptotic_test(ties):
    """z^2 is in scipy's two-sided p-value without continuity correction."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.3, 1, 35), rng.normal(0, 1, 50)
    if ties:
        ours, theirs = np.round(ours), np.round(theirs)
    score, _ = mann_whitney(ours, theirs)
    expected = mannwhitneyu(ours, theirs, method="asymptotic", use_continuity=False)
    assert 2 * norm.sf(abs(score)) == pytest.approx(expected.pvalue)
    assert np.sign(score) == np.sign(expected.statistic - 35 * 50 / 2)
    assert mann_whitney(np.ones(5), np.ones(6)) == (0.0, 0.0)


def test_intervals_of_scores_hold_the_truth():
    """Against simulation, at a difference far from none."""
    rng = np.random.default_rng(1)
    drawn = np.array([mann_whitney(rng.normal(1, 2, 40), rng.normal(0, 1, 60)) for _ in range(1500)])
    hits = np.abs(drawn[:, 0] - drawn[:, 0].mean()) <= 1.96 * np.sqrt(drawn[:, 1])
    assert 0.92 <= hits.mean() <= 0.97


def test_c_t_weighs_cells_by_held_out_images_and_drops_small_ones():
    rng = np.random.default_rng(2)
    generated, held_out = rng.random(90), rng.random(120)
    cells_g = np.repeat([0, 1, 2], [50, 36, 4])
    cells_v = np.repeat([0, 1, 2, 3], [60, 30, 20, 10])
    found = data_copying(generated, held_out, cells_g, cells_v, least=10)
    scores = [mann_whitney(generated[cells_g == c], held_out[cells_v == c])[0] for c in (0, 1)]
    assert found.c_t[0] == pytest.approx((60 * scores[0] + 30 * scores[1]) / 90)
    assert (found.cells, found.images, found.worst) == (2, 86, min(scores))
    assert found.c_t[1] < found.c_t[0] < found.c_t[2]
    assert data_copying(generated, held_out, cells_g, cells_v, least=100) is None
    # the sign: copies are below, a poor fit above
    assert data_copying(generated / 100, held_out, cells_g, cells_v, 10).c_t[2] < -5
    assert data_copying(generated + 1, held_out, cells_g, cells_v, 10).c_t[1] > 5
