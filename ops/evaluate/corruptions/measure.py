"""Accuracy under common corruptions, with the outcome of every single image.

Images that are corrupted here are C-style: only the published files are CIFAR-10-C and ImageNet-C.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.errors import AmalgamError
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.images import Source, corrupt_images, path_of, piece_name
from ops.evaluate.corruptions.pictures import draw_accuracies, draw_contact_sheet
from ops.evaluate.corruptions.published import IMAGENET_C, read_published
from ops.evaluate.corruptions.rows import MEAN_ERROR, PLAIN_ACCURACY, corruption_rows, write_predictions
from ops.evaluate.corruptions.score import ALEXNET_NAME
from ops.evaluate.measurements import split_name, title, write_measurements
from ops.evaluate.predicting import check_mode, predict
from ops.evaluate.remembered import forget_others, model_folders, save_array
from ops.files import link_or_copy, read_json
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.summary import Summary


def measure_corruptions(
    config: CorruptionsConfig,
    models: Mapping[str, Path],
    real: Path,
    out: Path,
    ledger: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    published: Path | None = None,
) -> Summary:
    """Classify a sample of every split under every corruption at every severity, with every model.

    Each piece (one corruption at one severity) is corrupted once, for all models, and kept in `corrupted/`. Given the
    folder `published`, its files are read instead, as one split `published`, and there is no `corrupted/`.

    What is in `ledger` is not made again: pieces, by the chosen images, seed and table (published files by their size and
    time), and what a model says of one, by its weights and the batch size too. After a kill it goes on there, and when one
    model changes the others are not asked again. What was not needed is forgotten at the end.

    A model that draws random numbers is asked once, without the vote that `robustness` takes: its errors are those of a
    single draw, and depend on the batch size.

    Raises AmalgamError for a baseline that is not measured, for logits that are no numbers, and for published files that
    are missing or do not fit the dataset.
    """
    if config.baseline != ALEXNET_NAME:
        _check_baseline(config, models)
    dataset = read_json(real / "dataset.json")
    if published is None:
        source = corrupt_images(config, real, cache, ledger, monitor)
    else:
        source = read_published(published, config, dataset["classes"], dataset["image_size"], ledger)
        if config.baseline == ALEXNET_NAME and source.kind != IMAGENET_C:
            message = f"corruptions.baseline is alexnet, but the files in {published.name} are those of {source.kind}"
            raise AmalgamError(message, "take a measured model, or the files of ImageNet-C")
    answers = _answer_files(models, source, config, ledger)
    predicted = _classify(models, source, answers, config, device, monitor)
    write_predictions(out / "predictions.parquet", predicted, source)
    rows = corruption_rows(predicted, source, config, dataset["name"])
    write_measurements(out / "measurements.parquet", rows)
    if config.baseline and not any("relative to" in r["metric"] for r in rows):
        monitor.note(f"{config.baseline} errs on no image under some corruption: no errors relative to it")
    draw_accuracies(rows, config, source, out / "pictures" / "accuracy.png")
    draw_contact_sheet(config, source, out / "pictures" / "corruptions.png")
    for piece, shard in source.shards.items():
        path_of(out, piece).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(shard, path_of(out, piece))
    forget_others(ledger, {*source.shards.values(), *(file for files in answers.values() for file in files)})
    return _summary(rows, config, source)


def _check_baseline(config: CorruptionsConfig, models: Mapping[str, Path]) -> None:
    """Raise AmalgamError for a baseline that is none of the models."""
    names = sorted({split_name(model)[0] for model in models})
    if config.baseline is not None and config.baseline not in names:
        raise AmalgamError(
            f"corruptions.baseline is {config.baseline!r}, which is not measured", f"use one of: {', '.join(names)}"
        )


def _answer_files(
    models: Mapping[str, Path], source: Source, config: CorruptionsConfig, ledger: Path
) -> dict[str, list[Path]]:
    """Return for each model where its answers to the pieces lie, in their order."""
    folders = model_folders(ledger, models, config.batch)
    names = [f"{piece_name(piece)}--{source.digests[piece]}.npy" for piece in source.pieces]
    return {model: [folder / name for name in names] for model, folder in folders.items()}


def _classify(
    models: Mapping[str, Path],
    source: Source,
    answers: Mapping[str, Sequence[Path]],
    config: CorruptionsConfig,
    device: torch.device,
    monitor: Monitor,
) -> dict[str, np.ndarray]:
    """Return for each model the class (pieces, images) int64 that it sees; one model and piece in memory at a time."""
    found: dict[str, np.ndarray] = {}
    for number, name in enumerate(sorted(models)):
        model, files = None, answers[name]
        for done, (piece, file) in enumerate(zip(source.pieces, files, strict=True), start=1):
            if not file.exists():
                if model is None:
                    model, _ = load_classifier(models[name], device)
                    check_mode(model, name)
                save_array(file, predict(model, name, source.load(piece), config.batch, device))
            monitor.progress(number * len(files) + done, len(models) * len(files), "evaluation")
        found[name] = np.stack([np.load(file, allow_pickle=False) for file in files])
    return found


def _summary(rows: Sequence[Mapping[str, Any]], config: CorruptionsConfig, source: Source) -> Summary:
    """Return mean corruption errors on the first split, by model and seed."""
    split = source.splits[0]
    metric = f"{MEAN_ERROR} ({source.kind})"
    first = [r for r in rows if r["split"] == split]
    plain = {(r["model"], r["seed"]): f"{r['value']:.3f}" for r in first if r["metric"] == PLAIN_ACCURACY}
    errors = [r for r in first if r["metric"] == metric]
    table = [
        {
            "model": r["model"],
            "seed": r["seed"],
            PLAIN_ACCURACY: plain.get((r["model"], r["seed"]), "–"),
            metric: f"{r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]",
        }
        for r in errors
    ]
    best = min(errors, key=lambda r: r["value"])
    return Summary(
        {
            "models": len(errors),
            "images": len(source.images),
            "corruptions": len(config.corruptions),
            "severities": len(config.severities),
            f"smallest {metric}": best["value"],
            "best model": title(best["model"], best["seed"]),
        },
        {f"{split}, {source.kind}": table},
    )
