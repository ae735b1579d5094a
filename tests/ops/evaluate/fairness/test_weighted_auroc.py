"""The area under the ROC curve against scikit-learn, and against every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ops.evaluate.fairness.auroc import BLOCK, weighted_auroc


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 3 * BLOCK).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, 2 * n), st.integers(0, 2**30))))
def test_it_is_that_of_scikit_learn_whatever_is_tied(case):
    """Few levels tie nearly everything, many nothing; with more images than a block has, ties cross its ends."""
    count, levels, seed = case
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, count).astype(np.float32)
    positive = rng.random(count) < 0.4
    positive[:2] = True, False
    weights = rng.poisson(1.0, (count, 5)).astype(np.float32)
    weights[:2] = np.maximum(weights[:2], 1)
    found = weighted_auroc(scores, positive, weights)
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in weights.T]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_copied_image_is_the_same_as_a_double_weight():
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=300).round(1), rng.random(300) < 0.3
    weights = rng.integers(0, 4, (300, 1)).astype(np.float32)
    copies = np.repeat(np.arange(300), weights[:, 0].astype(int))
    by_hand = roc_auc_score(positive[copies], scores[copies])
    assert weighted_auroc(scores, positive, weights)[0] == pytest.approx(by_hand, abs=1e-7)


def test_pairs_one_by_one():
    """By hand: of 3 x 2 pairs four are won and one is a tie."""
    scores = np.array([0.9, 0.5, 0.2, 0.5, 0.1], np.float32)
    positive = np.array([True, True, True, False, False])
    assert weighted_auroc(scores, positive, np.ones((5, 1), np.float32))[0] == pytest.approx(4.5 / 6)


def test_samples_without_positives_or_negatives_have_none():
    scores, positive = np.array([0.1, 0.2, 0.3], np.float32), np.array([True, False, False])
    weights = np.array([[0, 1, 1], [1, 0, 1], [1, 0, 1]], np.float32)
    found = weighted_auroc(scores, positive, weights)
    assert np.isnan(found).tolist() == [True, True, False]
    assert found[2] == 0.0
