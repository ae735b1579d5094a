"""Precision, recall, density and coverage against loops, and where they are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.generate.quality import manifolds as module
from ops.generate.quality.manifolds import manifolds, radii


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def by_loops(real, generated, k):
    """Return the four outcomes as the papers define them, one distance at a time."""

    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - other) for j, other in enumerate(points) if j != i)[k - 1]

    r, g = [radius(real, i) for i in range(len(real))], [radius(generated, i) for i in range(len(generated))]
    d = np.array([[np.linalg.norm(a - b) for b in real] for a in generated])
    inside = d <= np.array(r)
    return inside.any(1), inside.sum(1) / k, (d <= np.array(g)[:, None]).any(0), inside.any(0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(6, 20), st.integers(6, 20))
def test_they_are_what_the_papers_define(seed, k, n, m):
    real, generated = normal(n, 3, seed), normal(m, 3, seed + 1) + 0.5
    found = manifolds(real, generated, k)
    for mine, expected in zip(
        (found.precise, found.density, found.recalled, found.covered), by_loops(real, generated, k), strict=True
    ):
        np.testing.assert_allclose(mine, expected)


def test_blocks_do_not_change_them(monkeypatch):
    real, generated = normal(500, 4), normal(300, 4, seed=1)
    whole = manifolds(real, generated, 5)
    monkeypatch.setattr(module, "MEMORY", 0.05)  # 13 rows of 500 distances
    parts = manifolds(real, generated, 5)
    for name in ("precise", "density", "recalled", "covered"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_coverage_of_one_distribution_is_the_expected_one():
    n, m, k = 40, 60, 3
    found = np.mean([manifolds(normal(n, 2, s), normal(m, 2, s + 5000), k).covered.mean() for s in range(60)])
    expected = 1 - np.prod([(n - i) / (m + n - i) for i in range(1, k + 1)])
    assert found == pytest.approx(expected, abs=0.01)


def test_copies_are_like_and_varied_and_strangers_are_neither():
    real = normal(60, 3).astype(np.float32)
    copies = manifolds(real, real.copy(), 5)
    assert copies.precise.all()
    assert copies.recalled.all()
    assert copies.covered.all()
    assert copies.density.mean() >= 1
    far = manifolds(real, real + 100, 5)
    for outcomes in (far.precise, far.recalled, far.covered, far.density):
        assert not outcomes.any()


def test_a_collapsed_source_is_like_but_not_varied():
    real = normal(200, 3)
    collapsed = real[0] + 1e-3 * normal(200, 3, seed=1)
    found = manifolds(real, collapsed, 5)
    assert found.precise.mean() == 1
    assert found.recalled.mean() < 0.05
    assert found.covered.mean() < 0.2


def test_radii_leave_the_image_itself_out():
    np.testing.assert_allclose(radii(np.array([[0.0], [1.0], [3.0], [3.0]]), 1), [1, 1, 0, 0])
    np.testing.assert_allclose(radii(np.array([[0.0], [1.0], [3.0], [3.0]]), 2), [3, 2, 2, 2])


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="no 5 neighbours"):
        manifolds(normal(20, 2), normal(5, 2), 5)


def test_intervals_hold_the_estimates():
    found = manifolds(normal(100, 3), normal(100, 3, seed=1) + 0.3, 5)
    intervals = found.intervals(500, 0)
    assert intervals["precision"][0] == found.precise.mean()
    assert intervals["coverage"][0] == found.covered.mean()
    value, low, high = intervals["density"]
    assert low < value < high
    assert (high - low) / 2 == pytest.approx(1.96 * found.density.std() / 10, rel=0.15)
