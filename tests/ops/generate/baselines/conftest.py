"""Small training sets made of any pixels."""

import numpy as np
import pandas as pd
import pytest

from ops.data.loading import ImageSet

DATASET = {"classes": ["bar", "disc"], "attributes": {"tone": ["0", "1"]}}


def make_images(pixels, labels=None, tones=None, weights=None, concepts=None, classes=("bar", "disc")) -> ImageSet:
    """Return a training set of pixels (N, H, W, 3) with labels (N,) into `classes`; by default all are the first."""
    count = len(pixels)
    labels = np.zeros(count, np.int64) if labels is None else np.asarray(labels)
    table = pd.DataFrame(
        {
            "id": [f"image-{i}" for i in range(count)],
            "sha256": [image.tobytes().hex()[:64] for image in pixels],
            "label": [classes[label] for label in labels],
            "concept": [f"concept-{i}" for i in range(count)] if concepts is None else concepts,
            "weight": np.ones(count, np.float32) if weights is None else np.asarray(weights, np.float32),
            "attribute:tone": ["0"] * count if tones is None else list(tones),
        }
    )
    return ImageSet(np.asarray(pixels, np.uint8), labels, table, tuple(classes))


@pytest.fixture
def images_of():
    return make_images


@pytest.fixture
def mid_grey():
    """Return a function that draws images (N, side, side, 3) uint8 around 128, correlated, away from black and white."""

    def draw(count: int, side: int = 4, spread: float = 12.0, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(8, side * side * 3)) / np.sqrt(8)
        x = 128 + spread * (rng.normal(size=(count, 8)) @ mixing) + 3 * rng.normal(size=(count, side * side * 3))
        return np.rint(x).clip(0, 255).astype(np.uint8).reshape(count, side, side, 3)

    return draw


@pytest.fixture
def plan_rows():
    """Return a function that makes plan rows with the given index numbers."""

    def rows(indices, label="bar", tone="0"):
        return [
            {
                "index": int(i),
                "label": label,
                "domain": "paper",
                "attributes": {"tone": tone},
                "name": label,
                "concept": label,
                "caption": f"a {label}",
            }
            for i in indices
        ]

    return rows


@pytest.fixture
def dataset():
    return DATASET
