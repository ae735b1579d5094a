"""Sets of drawn shapes in two tones, real and as several kinds of sources would make them."""

from dataclasses import replace

import numpy as np
import pytest

from ops.data.loading import ImageSet, open_images
from ops.generate.quality.config import QualityConfig

UTILITY = {
    "architecture": {"family": "resnet9", "widths": [8, 16]},
    "loss": "clean",
    "averaging": {"decay": 0.8},
    "schedule": {"epochs": 30, "batch": 16, "lr": 0.05},
}


@pytest.fixture(scope="session")
def quick() -> QualityConfig:
    """Settings that take seconds."""
    return QualityConfig.model_validate(
        {
            "spaces": ["pca", "colours"],
            "judges": ["pca", "colours"],
            "components": 16,
            "replicates": 100,
            "min_group": 10,
            "neighbours": 3,
            "utility": UTILITY,
        }
    )


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def train(shards, cache) -> ImageSet:
    return open_images(shards, "train", cache)


@pytest.fixture(scope="session")
def held_out(shards, cache) -> ImageSet:
    return open_images(shards, "test", cache)


@pytest.fixture(scope="session")
def good(synthetic, cache) -> ImageSet:
    """A generator that is right: other draws of the same shapes."""
    return open_images(synthetic, "train", cache)


@pytest.fixture(scope="session")
def wrong(good) -> ImageSet:
    """The same images, asked for in the other class and tone."""
    table = good.table.assign(
        label=[{"bar": "disc", "disc": "bar"}[v] for v in good.table["label"]],
        **{"attribute:tone": [{"0": "1", "1": "0"}[v] for v in good.table["attribute:tone"]]},
    )
    return replace(good, labels=1 - good.labels, table=table)


@pytest.fixture(scope="session")
def noise(good) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, good.images.shape, dtype=np.uint8)
    return replace(good, images=pixels)
