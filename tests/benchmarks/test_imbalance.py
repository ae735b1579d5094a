"""The gap between tones in the study of the arranged imbalance holds the truth, in simulations where it is known."""

import numpy as np
import pytest

from benchmarks.imbalance import accuracy_gap


@pytest.mark.parametrize("shares", [[0.6] * 6, [0.35] + [0.6] * 5], ids=["equal", "one is low"])
def test_gaps_of_means_over_seeds(shares):
    """Three seeds on the same images: an image is easy or hard for all of them."""
    rng, groups = np.random.default_rng(0), np.repeat(list("abcdef"), 40)
    found = []
    for _ in range(60):
        easy = np.clip(np.repeat(shares, 40) + rng.uniform(-0.3, 0.3, 240), 0, 1)
        found.append(accuracy_gap((rng.random((240, 3)) < easy[:, None]).mean(axis=1), groups))
    _, low, high = np.array(found).T
    assert np.mean((low <= np.ptp(shares)) & (np.ptp(shares) <= high)) >= 0.93
