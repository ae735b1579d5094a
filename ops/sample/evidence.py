"""What a plan is told of generator and classifier: the values they know, their errors, and what the gate judges by."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.evaluate.predicting import choose, predict
from ops.files import read_json
from ops.generate.pipeline import MODEL
from ops.generate.quality.alignment import train_judges
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import make_spaces
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.sample.cells import Grid, column_of, grid_of
from ops.sample.config import ErrorDriven, GateConfig
from ops.sample.gate import Embedded, Gate, Recovered, gate_cells
from ops.sample.strategies import CellErrors, factors_of

HELD_OUT = "validation"
"""The split of real images that say how well judges see."""


def known_vocabularies(diffusion: Path) -> dict[str, list[str]]:
    """Return the values of each conditioning that the generator in `diffusion` knows, by name; weights are not read.

    Raises AmalgamError if there is no generator.
    """
    try:
        record = read_json(diffusion / MODEL / "conditioner" / "config.json")
        return dict(zip(record["names"], record["values"], strict=True))
    except (OSError, KeyError, ValueError, json.JSONDecodeError) as error:
        raise AmalgamError(
            f"no generator in {diffusion.name}: {str(error)[:200]}", "python -m pipelines run diffusion"
        ) from None


def cell_errors(
    config: ErrorDriven,
    scorers: Mapping[str, Path],
    shards: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> CellErrors:
    """Return how many images of `config.split` there are in each cell, and how many of them `scorers` have wrong.

    `scorers` are model folders by name, one for each seed; an image that half of them have wrong is half an error.

    Raises AmalgamError without a scorer, for a split without images, and for a scorer of other classes.
    """
    if not scorers:
        raise AmalgamError(
            "error_driven needs a trained classifier", "name a recipe in sampling_plan.strategy.scorer and train it"
        )
    dataset = read_json(shards / "dataset.json")
    grid = grid_of(factors_of(config, {}), dataset)
    images = open_images(shards, config.split, cache)
    wrong = np.zeros(len(images))
    for done, (name, folder) in enumerate(sorted(scorers.items()), start=1):
        model, card = load_classifier(folder, device)
        if card.classes != dataset["classes"] or card.image_size != dataset["image_size"]:
            raise AmalgamError(
                f"{name} knows {', '.join(card.classes)} at {card.image_size} pixels, and not the classes or the size of "
                f"{shards.name}",
                "train it on this dataset",
            )
        wrong += (predict(model, name, images, config.batch, device) != images.labels) / len(scorers)
        monitor.progress(done, len(scorers), "scorer")
    places = grid.locate(images.table)
    known = places >= 0
    size = int(np.prod(grid.shape))
    counts = np.bincount(places[known], minlength=size)
    errors = np.bincount(places[known], weights=wrong[known], minlength=size)
    return CellErrors(grid, counts.reshape(grid.shape), errors.reshape(grid.shape))


def judge_generator(
    config: GateConfig,
    factors: Sequence[str],
    shards: Path,
    answers: Path,
    scorers: Mapping[str, Path],
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Gate:
    """Return the gate of each cell of the class and `factors`, from the generator's answers to the evaluation prompts.

    Judges as those of the quality report, trained on training images, recover every factor of a cell from the answers and
    from held-out real images (`ops.generate.quality.alignment`).

    Args:
        config: spaces and thresholds.
        factors: what cells are made of beside the class, as `factors_of` returns it.
        shards: real images.
        answers: a shard folder whose manifest says what was asked for; `generator_samples/diffusion`.
        scorers: model folders of the space `classifier`, where one is used.
        cache: where images and features are kept.
        device: where networks run.
        monitor: hears of progress.

    Raises AmalgamError for images of another size, for too few images, and for scorers that are missing.
    """
    dataset = read_json(shards / "dataset.json")
    grid = grid_of(factors, dataset)
    quality = QualityConfig(
        spaces=[config.space],
        judges=config.judges,
        judge_strength=config.judge_strength,
        lite0_size=config.lite0_size,
        batch=config.batch,
        images=config.images,
        seed=config.seed,
    )
    train, held_out, made = (
        _some(quality, open_images(folder, split, cache), name)
        for folder, split, name in (
            (shards, "train", "train"),
            (shards, HELD_OUT, HELD_OUT),
            (answers, "train", "diffusion"),
        )
    )
    _check_size(train, made, answers.name)
    spaces = make_spaces(quality, train.images, scorers, {}, device)

    def embedded(images: ImageSet, names: Sequence[str]) -> tuple[np.ndarray, ...]:
        return tuple(spaces[name].embed(images.images, cache, monitor) for name in names)

    judges = train_judges(quality, embedded(train, config.judges), _asked(train.table, grid))

    def recovered(images: ImageSet) -> Recovered:
        asked = _asked(images.table, grid)
        right = judges.right(embedded(images, config.judges), asked).all(axis=1).to_numpy()
        return Recovered(np.where(judges.known(asked), grid.locate(images.table), -1), right)

    def placed(images: ImageSet) -> Embedded:
        return Embedded(grid.locate(images.table), embedded(images, [config.space])[0])

    return gate_cells(config, grid, recovered(made), recovered(held_out), placed(made), placed(train))


def _some(quality: QualityConfig, images: ImageSet, name: str) -> ImageSet:
    """Return at most `quality.images` images, those that the quality report uses too: their features are kept once."""
    return images if len(images) <= quality.images else choose(images, name, quality.images, quality.seed)


def _asked(table: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """Return the factors of a cell as columns of a manifest; None where an image has none, which is never recovered.

    A manifest has a domain; where cells have none it is blank, so that no judge looks for it.
    """
    columns = {column_of(factor): table.get(column_of(factor)) for factor in grid.factors}
    return pd.DataFrame({"domain": "", **columns}, index=table.index)


def _check_size(train: ImageSet, made: ImageSet, name: str) -> None:
    if train.images.shape[1:] != made.images.shape[1:] or train.classes != made.classes:
        raise AmalgamError(
            f"the images of {name} have another size or other classes than the real ones", "make them again"
        )
