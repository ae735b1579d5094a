"""A run of the measurement on small images."""

import numpy as np
import pandas as pd
import pytest

from ops.data.loading import ImageSet
from ops.evaluate.corruptions import images as images_module
from ops.evaluate.corruptions import measure as module
from ops.evaluate.corruptions.measure import measure_corruptions
from tests.ops.evaluate.corruptions.cases import ADDED, CPU, MODELS, config, folder_of


@pytest.fixture
def measure(shards, folders, monkeypatch, recorder_type):
    """Return a function that measures models, given instead of their folders, and returns the artefact's folder."""

    def run(tag="a", models=MODELS, monitor=None, published=None, ledger=None, **changes):
        out, home, cache = folders(f"corruptions-{tag}", f"models-{tag}", "cache")
        ledger = ledger or folders(f"ledger-{tag}")[0]
        kept = {folder_of(name, model, home): model for name, model in models.items()}
        monkeypatch.setattr(module, "load_classifier", lambda folder, device: (kept[folder].eval(), None))
        models = dict(zip(models, kept, strict=True))
        monitor = monitor or recorder_type()
        changes |= {"published": f"data/{published.name}"} if published else {}
        measure_corruptions(config(**changes), models, shards, out, ledger, cache, CPU, monitor, published)
        return out

    return run


@pytest.fixture
def greys(monkeypatch):
    """Make the dataset 200 images of one grey each, and return their levels; class 1 is what is brighter than 0.5."""
    levels = np.random.default_rng(0).integers(10, 240, 200)
    levels = np.where(abs(levels[:, None] / 255 + np.array([0, *ADDED]) - 0.5).min(axis=1) < 0.006, 10, levels)
    pixels = np.broadcast_to(levels[:, None, None, None], (200, 32, 32, 3)).astype(np.uint8)
    table = pd.DataFrame({"id": [f"g{n}" for n in range(200)], "split": "test"})
    images = ImageSet(pixels, (levels / 255 > 0.5).astype(np.int64), table, ("bar", "disc"))
    monkeypatch.setattr(images_module, "open_images", lambda *_: images)
    return levels / 255
