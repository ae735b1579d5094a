"""Measure how good sources of synthetic images are, beside what real images reach in the same place."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ops.data.loading import ImageSet
from ops.generate.quality.alignment import alignment_rows
from ops.generate.quality.checks import Compared, prepare, small_groups
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.distances import distance_rows
from ops.generate.quality.encoders import make_spaces
from ops.generate.quality.groups import Row
from ops.generate.quality.utility import utility_rows
from ops.progress import Monitor


def measure_quality(
    config: QualityConfig,
    dataset: str,
    train: ImageSet,
    held_out: Mapping[str, ImageSet],
    sources: Mapping[str, ImageSet],
    scorers: Mapping[str, Path],
    group_attribute: str,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    encoders: Mapping[str, Path] | None = None,
) -> list[Row]:
    """Return measurement rows of all sources; `model` is the source, `split` the real split it is compared with.

    The model `real` is what real images reach: training images against each held-out split, the first held-out split
    against training images. It is the floor of distances and the ceiling of everything else.

    Generators and scorers must have learnt from `train` only. No set in `held_out` may share images, or concepts that a
    split holds together, with it: else memorised images would count as good ones.

    Args:
        config: what is measured.
        dataset: its name, for the rows.
        train: real images that generators learnt from.
        held_out: real images that nobody learnt from, by split.
        sources: generated images by name; their labels and attributes are what was asked for.
        scorers: model folders of the space `classifier`.
        group_attribute: the attribute that groups are made of, such as tone.
        cache: where features are kept.
        device: where networks run.
        monitor: hears of progress, and which groups are too small.
        encoders: folder of each of `config.encoders`.

    Raises AmalgamError for sets that cannot be compared (see `prepare`), models that are missing or damaged, features or
    losses that are no numbers.
    """
    sets = prepare(config, train, held_out, sources, group_attribute)
    for note in notes_on(config, sets):
        monitor.note(note)
    spaces = make_spaces(config, sets.train.images.images, scorers, encoders or {}, device)
    sets = sets.embedded(lambda images: {name: space.embed(images, cache, monitor) for name, space in spaces.items()})
    rows = utility_rows(config, dataset, sets, device, monitor)
    for name in config.spaces:
        rows += distance_rows(config, dataset, sets, name, monitor)
    return rows + alignment_rows(config, dataset, sets, monitor)


def notes_on(config: QualityConfig, sets: Compared) -> list[str]:
    """Return what a reader must know of the numbers: how many images they are of, and what is not measured."""
    notes = [
        f"Fréchet distances, precision, recall, density and coverage are of {sets.smallest()} images on both sides, as many "
        "as the smallest set has",
        *small_groups(config, sets),
    ]
    if config.count_attribute is None:
        notes.append(
            "captions have no numbers here: whether as many things are shown as were asked for is not measured"
        )
    return notes
