"""The images that are shown to every model, and the probabilities that it gives to their classes."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ops.data.loading import ImageSet, open_images
from ops.evaluate.measurements import split_name
from ops.evaluate.predicting import ask, check_mode, choose
from ops.evaluate.remembered import images_digest, model_folders, save_array
from ops.evaluate.shift.config import ShiftConfig
from ops.evaluate.shift.sets import ingest_set
from ops.files import read_json, replacing
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor

PREDICTIONS = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("split", pa.string()),
        ("id", pa.string()),
        ("label", pa.string()),
        ("domain", pa.string()),
        ("predicted", pa.string()),
        ("confidence", pa.float64()),
        ("right", pa.bool_()),
    ]
)
"""`split` is the name of the set for a user's images; `id` is that of the manifest of `real_shards` or of the set."""


@dataclass(frozen=True)
class Shown:
    """The images of one split or set."""

    name: str
    images: ImageSet
    candidates: np.ndarray
    """Places (C,) of the classes that a prediction can be."""

    @property
    def labels(self) -> np.ndarray:
        """The class (N,) of each image."""
        return self.images.labels

    @property
    def domains(self) -> np.ndarray:
        """The domain (N,) of each image."""
        return self.images.table["domain"].to_numpy(str)


def open_shown(config: ShiftConfig, sets: Mapping[str, Path], real: Path, cache: Path) -> list[Shown]:
    """Return the split in distribution, the shifted ones and the ingested `sets`, in this order.

    Raises AmalgamError for a split without images.
    """
    splits = [config.in_distribution, *config.shifted]
    found = []
    for name, folder in [*((split, real) for split in splits), *sets.items()]:
        images = choose(open_images(folder, name, cache), name, config.images, config.seed)
        masked = name in sets and config.candidates == "present"
        candidates = np.unique(images.labels) if masked else np.arange(len(images.classes))
        found.append(Shown(name, images, candidates))
    return found


def open_calibration(config: ShiftConfig, real: Path, cache: Path) -> list[Shown]:
    """Return the images that probabilities are calibrated on: one split, or none if the profile names none."""
    name = config.label_shift.calibration_split
    if name is None:
        return []
    images = open_images(real, name, cache)
    return [Shown(name, images, np.arange(len(images.classes)))]


def ingest_sets(
    config: ShiftConfig, sources: Mapping[str, Path], real: Path, scratch: Path, monitor: Monitor
) -> dict[str, Path]:
    """Return the shard folder of each set, made in `scratch` where it is not there yet."""
    dataset = read_json(real / "dataset.json")
    made = {name: scratch / "sets" / name for name in config.sets}
    for name, folder in made.items():
        ingest_set(name, sources[name], dataset, folder, monitor)
    return made


def publish_sets(sets: Mapping[str, Path], out: Path) -> None:
    """Copy the shard folders into the artefact, where later stages find them."""
    for name, folder in sets.items():
        shutil.copytree(folder, out / "sets" / name)


def answer_files(
    models: Mapping[str, Path], shown: Sequence[Shown], config: ShiftConfig, ledger: Path
) -> dict[str, dict[str, Path]]:
    """Return for each model and split where its answers lie: by its weights, the images and the batch size."""
    folders = model_folders(ledger, models, config.batch)
    names = {part.name: f"{part.name}--{images_digest(part.images)}.npy" for part in shown}
    return {model: {part: folder / name for part, name in names.items()} for model, folder in folders.items()}


def show(
    models: Mapping[str, Path],
    shown: Sequence[Shown],
    answers: Mapping[str, Mapping[str, Path]],
    config: ShiftConfig,
    device: torch.device,
    monitor: Monitor,
) -> dict[str, dict[str, np.ndarray]]:
    """Return for each model and split the probabilities (N, K) float64 of all classes, mapped into memory.

    Each is kept in its file of `answers`; what is there is not computed again. A model that draws random numbers is asked
    once. Raises AmalgamError for a model of another number of classes and for logits that are no numbers.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for number, name in enumerate(sorted(models)):
        model = None
        found[name] = {}
        for done, part in enumerate(shown, start=1):
            file = answers[name][part.name]
            if not file.exists():
                if model is None:
                    model, _ = load_classifier(models[name], device)
                    check_mode(model, name)
                array = np.exp(ask(model, name, part.images, config.batch, device).log_probabilities)
                save_array(file, array)
            found[name][part.name] = np.load(file, mmap_mode="r", allow_pickle=False)
            monitor.progress(number * len(shown) + done, len(models) * len(shown), "evaluation")
    return found


def among(given: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K) of `candidates` alone: others are 0, as if their logits were masked.

    Candidates that have nothing to share (the model is that sure of another class) get equal parts.
    """
    if len(candidates) == given.shape[1]:
        return given
    kept = np.zeros_like(given)
    kept[:, candidates] = given[:, candidates]
    kept[np.ix_(~kept.any(axis=1), candidates)] = 1
    return kept / kept.sum(axis=1, keepdims=True)


def write_predictions(path: Path, given: Mapping[str, Mapping[str, np.ndarray]], shown: Sequence[Shown]) -> None:
    """Write one row for each model and image."""
    with replacing(path) as temporary, pq.ParquetWriter(temporary, PREDICTIONS, compression="zstd") as writer:
        for model, splits in given.items():
            name, seed = split_name(model)
            for part in shown:
                share = among(splits[part.name], part.candidates)
                seen, classes, count = share.argmax(axis=1), np.array(part.images.classes, object), len(part.images)
                columns = {
                    "model": np.full(count, name, object),
                    "seed": np.full(count, seed),
                    "split": np.full(count, part.name, object),
                    "id": part.images.table["id"].to_numpy(object),
                    "label": classes[part.labels],
                    "domain": part.images.table["domain"].to_numpy(object),
                    "predicted": classes[seen],
                    "confidence": share.max(axis=1),
                    "right": seen == part.labels,
                }
                writer.write_table(pa.table({field.name: columns[field.name] for field in PREDICTIONS}, PREDICTIONS))
