"""Shares as a judge sees them and as they are; prompts that name nobody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import AmalgamError
from ops.evaluate.shift.adaptation import estimate_priors
from ops.generate.responsibility.config import RepresentationConfig
from ops.generate.responsibility.representation import (
    Perceived,
    corrected_shares,
    measure_representation,
    total_variation,
)

CONFIG = RepresentationConfig(replicates=400)


def judge(size: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """Return the probabilities (K, K) to see each category: right with `right`, else one of the others."""
    wrong = rng.dirichlet(np.ones(size - 1), size=size) * (1 - right)
    return np.stack([np.insert(row, i, right) for i, row in enumerate(wrong)])


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 6), right=st.floats(0.6, 0.99), seed=st.integers(0, 999))
def test_the_correction_is_the_inverse_where_that_is_a_distribution(size, right, seed):
    rng = np.random.default_rng(seed)
    confusion, truth = judge(size, right, rng), rng.dirichlet(np.full(size, 3.0))
    seen = truth @ confusion
    found = corrected_shares(seen[None], confusion[None])[0]
    assert found == pytest.approx(np.linalg.solve(confusion.T, seen), abs=1e-3)
    assert found == pytest.approx(truth, abs=1e-3)


def test_outside_the_simplex_it_is_the_likeliest_distribution():
    """Against the procedure of Saerens et al. on the posteriors of a judge that tells only what it sees, and a search."""
    confusion = judge(3, 0.7, np.random.default_rng(0))
    seen = np.array([0.01, 0.04, 0.95])
    assert np.linalg.solve(confusion.T, seen).min() < 0
    found = corrected_shares(seen[None], confusion[None])[0]
    posteriors = (confusion / confusion.sum(axis=0)).T
    twin = estimate_priors(posteriors, np.full(3, 1 / 3), np.rint(seen * 100)[None], 1e-7, 5000)[0]
    assert found == pytest.approx(twin, abs=1e-4)
    grid = np.array([(a, b, 1 - a - b) for a in np.linspace(0, 1, 101) for b in np.linspace(0, 1 - a, 101)])
    likelihood = np.log(np.maximum(grid @ confusion, 1e-12)) @ seen
    assert np.log(found @ confusion) @ seen >= likelihood.max() - 1e-5
    assert found.sum() == pytest.approx(1)


def drawn(truth, confusion, prompts, each, alike, seed):
    """Return what a judge sees: a prompt's images have one true category with probability `alike`, else one each."""
    rng = np.random.default_rng(seed)
    same = rng.random(prompts) < alike
    true = np.where(
        same[:, None],
        rng.choice(len(truth), (prompts, 1), p=truth),
        rng.choice(len(truth), (prompts, each), p=truth),
    ).ravel()
    seen = np.array([rng.choice(len(truth), p=confusion[c]) for c in true])
    counts = np.stack([rng.multinomial(300, row) for row in confusion])
    names = tuple("abcdef"[: len(truth)])
    return Perceived(names, seen, np.repeat(np.arange(prompts), each), counts, np.array([500, 400, 100]))


def test_corrected_shares_are_near_the_truth_where_perceived_ones_are_not():
    truth = np.array([0.7, 0.25, 0.05])
    confusion = np.array([[0.75, 0.05, 0.2], [0.05, 0.8, 0.15], [0.02, 0.03, 0.95]])
    found = measure_representation(CONFIG, "tone", drawn(truth, confusion, 200, 6, 0.3, 0))
    for k, (perceived, corrected) in enumerate(zip(found.perceived, found.corrected, strict=True)):
        assert corrected[1] <= truth[k] <= corrected[2]
        assert perceived[0] == pytest.approx((truth @ confusion)[k], abs=0.04)
        assert corrected[2] - corrected[1] > perceived[2] - perceived[1], "the judge's errors add to the uncertainty"
    assert found.perceived[2][1] > truth[2], "what the judge sees is surely wrong about the rare category"
    assert found.data == pytest.approx([0.5, 0.4, 0.1])


def test_intervals_count_prompts_not_images():
    """A hundred alike images of a prompt say no more than one: intervals hold the truth as often as they should."""
    truth, exact = np.array([0.6, 0.3, 0.1]), np.eye(3)
    hits = np.zeros(3)
    for seed in range(60):
        found = measure_representation(CONFIG, "tone", drawn(truth, exact, 50, 10, 1.0, seed))
        hits += [low <= t <= high for t, (_, low, high) in zip(truth, found.perceived, strict=True)]
    assert (hits / 60 > 0.85).all()
    independent = measure_representation(CONFIG, "tone", drawn(truth, exact, 50, 10, 0.0, 0))
    alike = measure_representation(CONFIG, "tone", drawn(truth, exact, 50, 10, 1.0, 0))
    assert np.ptp(alike.perceived[0][1:]) > 2 * np.ptp(independent.perceived[0][1:])


def test_homogeneity_by_counting():
    seen = np.array([0, 0, 0, 1, 1, 2, 2, 2, 0])
    prompts = np.array(["p", "p", "p", "q", "q", "r", "r", "s", "q"])
    found = measure_representation(
        CONFIG, "tone", Perceived(("a", "b", "c"), seen, prompts, np.eye(3, dtype=int) * 99, np.ones(3, int))
    )
    assert found.homogeneous[0] == pytest.approx(2 / 3), "p and r, not q; s has a single image"
    shares = np.bincount(seen) / 9
    assert found.homogeneous_by_chance == pytest.approx(np.mean([(shares**n).sum() for n in (3, 3, 2)]))
    assert (found.prompts, found.images) == (4, 9)


def test_total_variation_is_the_largest_difference_of_events():
    a, b = np.array([0.5, 0.2, 0.3]), np.array([0.2, 0.4, 0.4])
    events = [sum((a - b)[k] for k in range(3) if bits >> k & 1) for bits in range(8)]
    assert total_variation(a[None], b)[0] == pytest.approx(max(events))
    found = measure_representation(
        CONFIG, "x", Perceived(("a", "b"), np.zeros(8, int), np.arange(8), np.eye(2, dtype=int) * 50, np.array([3, 1]))
    )
    assert found.distances["perceived to parity"] == (0.5, 0.5, 0.5)
    assert found.distances["perceived to the data"][0] == 0.25
    assert np.isnan(found.homogeneous[0])


def test_what_is_not_known_is_refused():
    seen = Perceived(("a", "b"), np.array([0, 1]), np.arange(2), np.array([[5, 0], [0, 0]]), np.array([1, 1]))
    with pytest.raises(AmalgamError, match="tone: the judge was not tried on real images of b"):
        measure_representation(CONFIG, "tone", seen)
    empty = Perceived(("a", "b"), np.zeros(0, int), np.zeros(0), np.eye(2, dtype=int), np.array([1, 1]))
    with pytest.raises(AmalgamError, match="tone: 0 images"):
        measure_representation(CONFIG, "tone", empty)
