"""The classification accuracy score: train on a source's images, test on real ones (Ravuri and Vinyals 2019).

A classifier learns from one source alone, its labels being what was asked for, and is tested on real images that no
generator and no scorer learnt from. Every source, the real training images among them, has as many images, the same
architecture and order of batches, and as many optimizer steps.
"""

import numpy as np
import torch

from ops.data.loading import ImageSet
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row
from ops.evaluate.predicting import predict
from ops.generate.quality.checks import REAL, Compared, values_of
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.groups import Row, outcome_rows
from ops.models.base import Classifier
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.train.engine import Engine
from ops.train.mixing import make_batches
from ops.train.recipe import Recipe
from ops.train.start import start
from ops.train.workers import Workers

METRIC = "classification accuracy score"
NAME = "utility"
"""Seeds weights, batches and augmentation of the classifiers of all sources alike."""


def utility_rows(
    config: QualityConfig, dataset: str, sets: Compared, device: torch.device, monitor: Monitor
) -> list[Row]:
    """Return the accuracy on every held-out split, overall and by group, after training on each source (Wilson).

    `real` is the accuracy after training on as many real images. Intervals are over test images only: another seed of
    the classifier would move the accuracy too.

    Raises AmalgamError if the loss of a training is not a number.
    """
    rows: list[Row] = []
    sources = {REAL: sets.train, **sets.sources}
    count = min(map(len, sources.values()))
    for name, pool in sources.items():
        model = trained(config.utility, _drawn(config, pool.images, count, name), config.seed, device, monitor)
        for split, real in sets.held_out.items():
            where = (name, dataset, split)
            right = predict(model, NAME, real.images, config.batch, device) == real.images.labels
            rows.append(row(*where, "all", METRIC, wilson(int(right.sum()), len(right)), len(right)))
            expected = values_of(real.table[sets.column], config.min_group)
            rows += outcome_rows(config, where, METRIC, right, real.values(sets.column), sets.attribute, expected)
    return rows


def trained(recipe: Recipe, images: ImageSet, seed: int, device: torch.device, monitor: Monitor) -> Classifier:
    """Return the averaged classifier that `recipe` makes of `images` alone, in evaluation mode."""
    model, _ = start(recipe, NAME, images, None, seed)
    order = derive_seed(seed, NAME, "order")
    batches = make_batches(recipe, images, None, order)
    engine = Engine(recipe, NAME, model, batches, seed, device, Workers())
    for step in range(engine.steps):
        loss, _ = engine.step(step)
        monitor.progress(step + 1, engine.steps, "step", loss=loss)
    return engine.average.eval()


def _drawn(config: QualityConfig, images: ImageSet, count: int, name: str) -> ImageSet:
    """Return `count` images of a source, drawn without replacement."""
    if len(images) == count:
        return images
    rng = np.random.default_rng(derive_seed(config.seed, NAME, name))
    return images.subset(np.sort(rng.permutation(len(images))[:count]))
