"""The study of the generator: its verdicts count seeds as a random sample, and its prompts the training images."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_1samp

from benchmarks.generator import SCORE, training_images, verdicts_of
from ops.evaluate.measurements import row
from tests.ops.conftest import make_shards


def rows(effects, error=0.0) -> pd.DataFrame:
    """Return the usefulness of the diffusion model, and that of both baselines, by seed; of a baseline it is 0.5."""
    half = norm.ppf(0.975) * error
    found = []
    for seed, effect in enumerate(effects):
        for model, value in (("diffusion", 0.5 + effect), ("gaussian", 0.5), ("mixture", 0.5)):
            interval = (value, value - half, value + half)
            found.append({**row(model, "d", "validation", "all", SCORE, interval, 100), "seed": seed})
    return pd.DataFrame(found)


def test_without_a_doubt_from_images_it_is_the_t_interval_of_the_seeds():
    effects = [0.04, 0.07, 0.05]
    for verdict in verdicts_of(rows(effects)):
        expected = ttest_1samp(effects, 0).confidence_interval()
        assert (verdict["low"], verdict["high"]) == pytest.approx((expected.low, expected.high))
        assert verdict["seeds"] == 3
        assert verdict["holds"]


def test_with_one_seed_it_is_the_normal_interval_of_the_images():
    first, _ = verdicts_of(rows([0.05], error=0.01))
    assert first["high"] - first["effect"] == pytest.approx(norm.ppf(0.975) * 0.01 * 2**0.5, rel=1e-3)


def test_intervals_hold_the_truth_with_three_seeds():
    """Effects vary over seeds as much as over images; a normal interval would hold it in under nine of ten cases."""
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        images = rng.normal(0, 0.01, (2, 3))
        effects = 0.05 + rng.normal(0, 0.03, 3) + images[0] - images[1]
        verdict = verdicts_of(rows(effects, error=0.01))[0]
        held.append(verdict["low"] <= 0.05 <= verdict["high"])
    assert np.mean(held) >= 0.93


def test_there_are_as_many_prompts_as_training_images(tmp_path):
    assert training_images(make_shards(tmp_path / "shards", {"train": 11, "validation": 3})) == 11
