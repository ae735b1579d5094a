"""Generators and judges as they are in tests: images in memory, and raters whose minds are known."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from ops.data.loading import ImageSet
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.strength import ELO

CLASSES = ("bar", "disc")


def image_set(source: str, rows: int = 60, wordings: int = 1, seed: int = 0) -> ImageSet:
    """Return a generator's images; each concept is asked for in two captions, each caption in `wordings` rows."""
    rng = np.random.default_rng([seed, *source.encode()])
    table = pd.DataFrame(
        {
            "id": [f"{source}-{n}" for n in range(rows)],
            "key": [f"{n:08d}" for n in range(rows)],
            "caption": [f"a shape number {n // wordings}" for n in range(rows)],
            "label": [CLASSES[n % 2] for n in range(rows)],
            "domain": ["paper"] * rows,
            "name": [f"shape {n // wordings}" for n in range(rows)],
            "concept": [f"concept {n // (2 * wordings)}" for n in range(rows)],
            "attributes": [{"tone": str(n % 3)} for n in range(rows)],
            "sha256": [f"{rng.integers(2**62):064x}" for _ in range(rows)],
        }
    )
    images = rng.integers(0, 256, (rows, 8, 8, 3)).astype(np.uint8)
    return ImageSet(images, np.arange(rows) % 2, table, CLASSES)


def simulated_votes(rng, strengths, prompts, raters=1, each=None, spread=0.0, ties=0.0):
    """Return votes of raters on pairs of models with known Elo strengths (M,).

    Every rater sees `each` of all comparisons (all, if None). Raters and prompts shift the strengths, each by normal draws
    of standard deviation `spread` (log-odds). `ties` is the probability of a tie.
    """
    count = len(strengths)
    pairs = np.array(list(combinations(range(count), 2)))
    shift_r, shift_p = rng.normal(0, spread, (raters, count)), rng.normal(0, spread, (prompts, count))
    every = [rng.permutation(len(pairs) * prompts)[:each] for _ in range(raters)]
    rater = np.repeat(np.arange(raters), [len(part) for part in every])
    pair, prompt = np.divmod(np.concatenate(every), prompts)
    i, j = pairs[pair].T
    odds = (strengths[i] - strengths[j]) / ELO
    odds = odds + shift_r[rater, i] - shift_r[rater, j] + shift_p[prompt, i] - shift_p[prompt, j]
    choice = np.where(rng.random(len(odds)) < 1 / (1 + np.exp(-odds)), "A", "B")
    choice = np.where(rng.random(len(odds)) < ties, "tie", choice)
    return pd.DataFrame(
        {
            "pair": [f"m{a} vs m{b}" for a, b in zip(i, j, strict=True)],
            "choice": choice,
            "rater_id": [f"r{n}" for n in rater],
            "prompt_id": [f"p{n}" for n in prompt],
        }
    )


@pytest.fixture
def make_images():
    return image_set


@pytest.fixture
def simulate():
    return simulated_votes


@pytest.fixture(scope="session")
def sources():
    return {name: image_set(name) for name in ("alpha", "beta", "gamma")}


@pytest.fixture
def config():
    return PreferenceConfig(prompts=20, ratings=30, assurance_share=0.4, replicates=200)
