"""Vision encoders that a user brings, as a folder of the transformers library, as feature spaces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.generate.quality.spaces import Space, identity_of, unit_batch

FEATURES_OF: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "clip": lambda model, x: model.get_image_features(pixel_values=x),
    "clip_vision_model": lambda model, x: model(pixel_values=x).pooler_output,
    "dinov2": lambda model, x: model(pixel_values=x).last_hidden_state[:, 0],
    "vit": lambda model, x: model(pixel_values=x).last_hidden_state[:, 0],
}
"""What is taken of each type of model: the projected image embedding, the pooled one, or the class token after the last
norm."""
UNUSED = ("pooler.",)
"""Weights that the features above do not depend on in a `vit`, and that many files lack."""


def vision_space(name: str, folder: Path, batch: int, device: torch.device) -> Space:
    """Return the space of a pretrained encoder in `folder`: config.json, model.safetensors, preprocessor_config.json.

    Images are resized to the model's side (bicubic) and normalised as its preprocessor says. Nothing is downloaded and
    no code of the folder runs.

    Raises AmalgamError for a file that is missing or damaged, for weights in another format than safetensors, and for
    types of models that it is not known what to take of.
    """
    for file, remedy in (
        ("config.json", "write the folder with save_pretrained"),
        ("preprocessor_config.json", "save the model's image processor to the same folder: it says how to normalise"),
        ("model.safetensors", "save it with safe_serialization=True in one file; other formats can hold code"),
    ):
        if not (folder / file).exists():
            raise AmalgamError(f"the encoder {name} has no {file}", remedy)
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in FEATURES_OF:
        raise AmalgamError(
            f"the encoder {name} is of type {kind}, of which it is not known what to take",
            f"bring one of type {', '.join(sorted(FEATURES_OF))}",
        )
    preprocessor = read_json(folder / "preprocessor_config.json")
    mean, std = _normalisation(name, preprocessor, device)
    model = _load(name, folder).to(device).eval()
    side = _side(preprocessor, getattr(model.config, "vision_config", model.config))
    features_of = FEATURES_OF[kind]

    @torch.inference_mode()
    def encode(images: np.ndarray) -> np.ndarray:
        x = F.interpolate(unit_batch(images, device), (side, side), mode="bicubic", antialias=True).clamp_(0, 1)
        found = features_of(model, ((x - mean) / std).contiguous())
        # transformers 5 wraps the projected embedding
        return (found if isinstance(found, torch.Tensor) else found.pooler_output).float().cpu().numpy()

    width = encode(np.zeros((1, side, side, 3), np.uint8)).shape[1]
    return Space(name, identity_of("vision", content_hash(folder)), width, encode, batch)


def _side(preprocessor: dict[str, Any], settings: Any) -> int:
    """Return the side in pixels that the preprocessor crops to, or that the model's positions are learned for."""
    crop = preprocessor.get("crop_size") or settings.image_size
    return int(crop["height"] if isinstance(crop, dict) else crop)


def _normalisation(name: str, preprocessor: dict[str, Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    keys = ("image_mean", "image_std")
    try:
        mean, std = (torch.tensor(preprocessor[key], dtype=torch.float32).view(1, 3, 1, 1) for key in keys)
    except (KeyError, TypeError, RuntimeError):
        raise AmalgamError(
            f"preprocessor_config.json of the encoder {name} has no image_mean and image_std of three channels",
            "save the model's own image processor",
        ) from None
    return mean.to(device), std.to(device)


def _load(name: str, folder: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # the monitor shows progress
    try:
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AmalgamError(f"the encoder {name} cannot be read: {str(error)[:200]}", "save it again") from None
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(UNUSED))
    if missing:
        raise AmalgamError(
            f"the weights of the encoder {name} lack {len(missing)} tensors, such as {missing[0]}",
            "bring weights and config.json of the same model",
        )
    return model
