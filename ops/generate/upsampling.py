"""Enlarging images with the trained model of a cascade."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.backbones import LatentModel
from ops.generate.codec import LOCAL
from ops.generate.conditioning import Conditioner, Conditions, gather
from ops.generate.guidance import guided_denoiser
from ops.generate.model_config import FlowConfig
from ops.generate.objectives import EMBEDDED, Flow, mix
from ops.generate.solvers import solve
from ops.generate.text import TextTokens
from ops.generate.upsampler import Level, UpsamplingModel
from ops.generate.upsampler_config import UpsamplingConfig
from ops.models.checkpoint import weights_digest
from ops.progress import Monitor
from ops.runtime import generator as seeded


class Given(LatentModel):
    """The model with the small images of a batch, in the form that guidance asks for."""

    def __init__(self, model: UpsamplingModel, small: torch.Tensor, level: torch.Tensor) -> None:
        super().__init__(model.unet, model.conditioner)
        self.model, self.small, self.level = model, small, level

    def forward(self, x: torch.Tensor, time: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Return the velocity (B, 3, H, W) at times (B,) in [0, 1000]."""
        return self.model(x, time / EMBEDDED, self.small, self.level, conditions)


@dataclass(frozen=True)
class Upsampler:
    """A trained model that enlarges images."""

    model: UpsamplingModel
    size: int
    """Side of the large images in pixels."""
    factor: int
    max_level: float
    """The highest level that it was trained at."""
    identity: str
    """SHA-256 of the weights, sizes and deviations."""


def load_upsampler(folder: Path, device: torch.device) -> Upsampler:
    """Return the trained model in `folder`, frozen; raises AmalgamError if it cannot be read."""
    try:
        record = read_json(folder / "upsampler.json")
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", **LOCAL)
        conditioner = Conditioner.from_pretrained(folder / "conditioner", **LOCAL)
        level = Level.from_pretrained(folder / "level", **LOCAL)
    except (OSError, ValueError) as error:
        raise AmalgamError(f"no upsampler in {folder.name}: {error}", "python -m pipelines run upsampler") from None
    model = UpsamplingModel(unet, conditioner, level).to(device).eval().requires_grad_(False)
    sizes = [record["size"], record["factor"], level.config["clean"], level.config["noisy"]]
    identity = hashlib.sha256(f"{weights_digest(model)} {sizes}".encode()).hexdigest()
    return Upsampler(model, record["size"], record["factor"], record["max_level"], identity)


@torch.no_grad()
def upsample(
    config: UpsamplingConfig,
    upsampler: Upsampler,
    images: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
    text: TextTokens,
    device: torch.device,
    monitor: Monitor,
) -> np.ndarray:
    """Return small images (N, h, w, 3) uint8, one for each of `rows`, enlarged to (N, H, W, 3) uint8.

    The noise of a row follows from (seed, index): batches change images by rounding only. `text` holds the rows' captions.

    Raises AmalgamError for images of another size or type, for a level that was not trained, and for values that are no
    numbers.
    """
    check_small(upsampler, images)
    if config.level > upsampler.max_level:
        raise AmalgamError(
            f"the upsampler was trained for noise levels up to {upsampler.max_level}, not {config.level}",
            f"set level to {upsampler.max_level} at most, or train with a higher upsampler.max_level",
        )
    objective = Flow(FlowConfig())
    codes = upsampler.model.conditioner.encode(rows)
    captions = text.rows([row["caption"] for row in rows])
    large = np.empty((len(rows), upsampler.size, upsampler.size, 3), np.uint8)
    for start in range(0, len(rows), config.batch):
        part = slice(start, start + config.batch)
        small = torch.from_numpy(np.ascontiguousarray(images[part])).permute(0, 3, 1, 2).float() / 127.5 - 1
        level = torch.full((len(small),), config.level)
        corruption = _noise(config.seed, "conditioning augmentation", rows[part], small.shape[1:])
        small = mix(objective, small, corruption, level)
        given = Given(upsampler.model, small.to(device), level.to(device))
        denoiser = guided_denoiser(given, objective, gather(text, captions[part], codes[part]).to(device), config)
        noise = _noise(config.seed, "upsampling", rows[part], (3, upsampler.size, upsampler.size)).to(device)
        x = solve(denoiser, objective, noise, config.steps, config.solver)
        if not torch.isfinite(x).all():
            raise AmalgamError(
                "the upsampler made values that are no numbers",
                f"lower guidance ({config.guidance}); if that does not help, train again: "
                "python -m pipelines run upsampler",
            )
        x = ((x + 1) / 2).clamp(0, 1)
        large[part] = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        monitor.progress(min(start + config.batch, len(rows)), len(rows), "image")
    return large


def check_small(upsampler: Upsampler, images: np.ndarray) -> None:
    """Raise AmalgamError unless `images` are (N, h, w, 3) uint8 of the size that is enlarged."""
    side = upsampler.size // upsampler.factor
    if images.dtype != np.uint8:
        raise AmalgamError(
            f"images to enlarge are {images.dtype}, which may hold values that are no pixels",
            "hand on 8-bit images, as every source draws them",
        )
    if images.shape[1:] != (side, side, 3):
        found = " x ".join(map(str, images.shape[1:]))
        raise AmalgamError(
            f"images to enlarge are {found}, and the upsampler was trained to enlarge {side} x {side} x 3",
            f"make the base at {side} pixels, or train the upsampler with another factor",
        )


def _noise(seed: int, purpose: str, rows: Sequence[Mapping[str, Any]], shape: Sequence[int]) -> torch.Tensor:
    """Return standard normal noise (B, *shape), each row's from (seed, purpose, index)."""
    return torch.stack([torch.randn(tuple(shape), generator=seeded(seed, purpose, row["index"])) for row in rows])
