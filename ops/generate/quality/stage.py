"""The stage `generator_report`: the quality of the diffusion model beside baselines and real images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ops.data.loading import ImageSet, open_images
from ops.evaluate.measurements import write_measurements
from ops.files import read_json
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.measure import measure_quality
from ops.generate.quality.pictures import draw_quality
from ops.generate.quality.summary import quality_summary
from ops.progress import Monitor
from ops.sample.schema import OVERSAMPLED
from ops.summary import Summary

HELD_OUT = "validation"
"""Concepts that neither generators nor scorers learnt from. (`near` shows training concepts in other tones.)"""


def made_by_source(images: ImageSet) -> ImageSet:
    """Return `images` without training images that a plan repeats: these say nothing of a generator."""
    own = (images.table["source"] != OVERSAMPLED).to_numpy()
    return images if own.all() else images.subset(np.flatnonzero(own))


def write_generator_report(
    config: QualityConfig,
    shards: Path,
    sources: Mapping[str, Path],
    scorers: Mapping[str, Path],
    encoders: Mapping[str, Path],
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Write `measurements.parquet` and pictures of every source, a shard folder by name.

    Scorers are classifiers that were trained on the training split; see `measure_quality` for what is measured.
    """
    dataset = read_json(shards / "dataset.json")
    train, held_out = (open_images(shards, split, cache) for split in ("train", HELD_OUT))
    made = {name: made_by_source(open_images(folder, "train", cache)) for name, folder in sources.items()}
    group = dataset["groups"]
    rows = measure_quality(
        config,
        dataset["name"],
        train,
        {HELD_OUT: held_out},
        made,
        scorers,
        group,
        cache,
        device,
        monitor,
        encoders,
    )
    write_measurements(out / "measurements.parquet", rows)
    names = dataset.get("attribute_names", {}).get(group, {})
    draw_quality(rows, config.spaces, train, made, group, names, out / "pictures", config.seed)
    return quality_summary(config, rows)
