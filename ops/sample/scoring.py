"""What scorers, classifiers trained on real images, say of synthetic ones."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ops.data.hashing import decode
from ops.data.shards import read_shard
from ops.errors import AmalgamError
from ops.files import replacing
from ops.models.checkpoint import load_classifier, weights_digest
from ops.progress import Monitor
from ops.sample.config import FilteredSyntheticConfig


def load_scorers(
    scorers: Mapping[str, Path], dataset: Mapping[str, Any], device: torch.device
) -> tuple[list[nn.Module], str]:
    """Return the scorers and a hash of their weights; raises AmalgamError if one is for other images or classes."""
    models: list[nn.Module] = []
    digest = hashlib.sha256()
    for name, folder in sorted(scorers.items()):
        model, card = load_classifier(folder, device)
        if card.classes != dataset["classes"] or card.image_size != dataset["image_size"]:
            raise AmalgamError(
                f"{name} knows {', '.join(card.classes)} at {card.image_size} pixels; the synthetic images are "
                f"{', '.join(dataset['classes'])} at {dataset['image_size']}",
                "train the scorer on the dataset that the generator learnt from",
            )
        models.append(model)
        digest.update(weights_digest(model).encode())
    return models, digest.hexdigest()[:16]


def score_rows(
    config: FilteredSyntheticConfig,
    synthetic: Path,
    table: pd.DataFrame,
    classes: Sequence[str],
    models: Sequence[nn.Module],
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the class (N,) int64 that f_NR sees and its probability (N,) float32 of the row's label.

    The row's label is that class where `config.labels` is pseudo, else the condition, whose probability is NaN where a row
    has none.
    """
    scores = np.zeros((len(table), 3), np.float32)
    number = {name: i for i, name in enumerate(classes)}
    shards = list(table.groupby("shard", sort=True))
    for done, (shard, rows) in enumerate(shards, start=1):
        ledger = scratch / f"{str(shard).replace('/', '-')}.npy"
        if not ledger.exists():
            found = probabilities(models, shard_images(synthetic, str(shard), rows["key"]), config.batch, device)
            places = rows["label"].map(number)
            conditions = found[np.arange(len(rows)), places.fillna(0).to_numpy(np.int64)]
            conditions = np.where(places.isna(), np.nan, conditions)
            with replacing(ledger) as temporary, temporary.open("wb") as file:
                np.save(file, np.stack([found.argmax(axis=1), conditions, found.max(axis=1)], axis=1, dtype=np.float32))
        scores[rows.index] = np.load(ledger)
        monitor.progress(done, len(shards), "shard")
    return scores[:, 0].astype(np.int64), scores[:, 1 if config.labels == "conditional" else 2]


def shard_images(synthetic: Path, shard: str, keys: pd.Series) -> np.ndarray:
    """Return the images (N, H, W, 3) uint8 of one shard in the order of `keys`."""
    data = dict(read_shard(synthetic / shard))
    missing = set(keys) - data.keys()
    if missing:
        raise AmalgamError(
            f"{len(missing)} images of the manifest are not in the shard {shard}",
            "dvc checkout brings it back; or make it again: python -m pipelines run synthetic_shards",
        )
    return np.stack([decode(data[key]) for key in keys])


@torch.no_grad()
def probabilities(models: Sequence[nn.Module], images: np.ndarray, batch: int, device: torch.device) -> np.ndarray:
    """Return the mean over `models` of the class probabilities (N, K) float32 of images (N, H, W, 3) uint8."""
    parts = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).to(device, torch.float32).div(255)
        parts.append(torch.stack([model(x).float().softmax(dim=1) for model in models]).mean(dim=0).cpu())
    found = torch.cat(parts)
    if not torch.isfinite(found).all():
        raise AmalgamError("the scorer gives values that are no numbers", "train it again with a lower schedule.lr")
    return found.numpy()
