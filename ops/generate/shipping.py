"""Trained networks to hand out: diffusers folders in half precision, half the bytes, and of which images they learnt."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.codec import LOCAL

RECORD = "shipped.json"
"""Beside `model/` of a shipped autoencoder: the hash of the training split and the lineage."""


def split_hash(images: ImageSet) -> str:
    """Return the SHA-256 of a split: its images, what each is told, and how often each is drawn."""
    table = images.table
    rows = zip(
        table["sha256"],
        table["label"],
        table["domain"],
        (sorted(each.items()) for each in table["attributes"]),
        table["caption"],
        (round(float(weight), 6) for weight in table["weight"]),
        strict=True,
    )
    return hashlib.sha256("\n".join(sorted(json.dumps(row) for row in rows)).encode()).hexdigest()


def ship(model: ModelMixin, folder: Path) -> None:
    """Write the weights of `model` to `folder` as float16; `model` stays as it is, equal weights are equal bytes.

    Raises AmalgamError if a weight does not fit into float16 (its size is at most 65504).
    """
    limit = torch.finfo(torch.float16).max
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.abs().max() <= limit:
            raise AmalgamError(
                f"{name} has values beyond {limit:g} and cannot be shipped as float16",
                "train with a lower learning rate",
            )
    architecture = {key: value for key, value in model.config.items() if not key.startswith("_")}  # no paths
    half = type(model)(**architecture)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)


def receive(kind: type[ModelMixin], folder: Path) -> ModelMixin:
    """Return the network of class `kind` in `folder`, float32 whatever it was stored in; AmalgamError if it cannot be read."""
    try:
        return kind.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, RuntimeError) as error:
        raise AmalgamError(
            f"no {kind.__name__} in {folder.name}: {error}", "fetch the shipped weights: dvc pull"
        ) from None


def write_record(folder: Path, images: ImageSet, lineage: str) -> None:
    """Write beside the network in `folder` which training images it learnt, and where it comes from, for people."""
    write_json(folder / RECORD, {"training split": split_hash(images), "lineage": lineage})


def shipped_record(folder: Path) -> dict[str, Any] | None:
    """Return what `write_record` wrote; None for weights that come from elsewhere and are used whatever they learnt."""
    return read_json(folder / RECORD) if (folder / RECORD).exists() else None
