"""Model folders: `model.safetensors`, `model.json`, and `code/` of models from elsewhere. One function loads them all."""

import hashlib
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.models.base import Classifier
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.external.config import ExternalArchitecture
from ops.models.external.wrapper import external_classifier

CODE = "code"
"""Where a model from elsewhere has its Python files, in its folder."""


def save_classifier(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write weights and card to `folder`; equal weights are equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(model.state_dict().items())}
    with replacing(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    write_json(folder / "model.json", card.model_dump(mode="json"))


def load_classifier(folder: Path, device: torch.device) -> tuple[Classifier, ModelCard]:
    """Return the classifier in `folder` in evaluation mode, and its card.

    Raises AmalgamError if a file is missing or damaged, or the weights are those of another architecture. A model from
    elsewhere runs its own Python code, and keeps the plain memory layout that this may rely on.
    """
    remedy = "make it again: python -m pipelines run"
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).exists():
            raise AmalgamError(f"{folder.name} is no model folder: {name} is missing", remedy)
    try:
        card = ModelCard.model_validate(read_json(folder / "model.json"))
        tensors = load_file(folder / "model.safetensors")
    except (ValidationError, ValueError, SafetensorError) as error:
        raise AmalgamError(f"the model in {folder.name} is damaged: {str(error)[:200]}", remedy) from None
    if isinstance(card.architecture, ExternalArchitecture):
        external = external_classifier(card.architecture, folder / CODE)
        load_weights(external, tensors, folder.name)
        return external.to(device), card
    model = build_classifier(card.architecture, len(card.classes), card.mean, card.std)
    load_weights(model, tensors, folder.name)
    return place(model, device).eval(), card


def place(model: Classifier, device: torch.device) -> Classifier:
    """Return `model` on `device`, its weights laid out channels-last, which convolutions are fastest with."""
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_weights(model: nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Put `tensors` into `model`; raises AmalgamError that says where they do not fit."""
    mine = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in tensors.items()}
    differ = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    if differ:
        key = differ[0]
        raise AmalgamError(
            f"the weights of {name} are of another architecture: {len(differ)} tensors differ, "
            f"first {key} ({theirs.get(key, 'missing')} instead of {mine.get(key, 'none')})",
            "give both recipes the same architecture and classes",
        )
    model.load_state_dict(tensors)


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
