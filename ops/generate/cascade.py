"""A base source and the model that enlarges what it draws: one source of large images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.generate.source import Row, Source
from ops.generate.text import TextEncoder
from ops.generate.upsampler_config import UpsamplingConfig
from ops.generate.upsampling import Upsampler, load_upsampler, upsample
from ops.progress import Monitor


@dataclass(frozen=True)
class Cascade:
    """A `Source` whose images are those of `base`, enlarged; captions are encoded as they come."""

    base: Source
    upsampler: Upsampler
    config: UpsamplingConfig
    encoder: TextEncoder
    device: torch.device

    @property
    def name(self) -> str:
        """The base's name and `, enlarged`."""
        return f"{self.base.name}, enlarged"

    @property
    def identity(self) -> str:
        """SHA-256 of the identities of base and upsampler."""
        return hashlib.sha256(f"{self.base.identity} {self.upsampler.identity}".encode()).hexdigest()

    @property
    def sampler(self) -> dict[str, Any]:
        """The samplers of both stages, with the seed of the base."""
        deciding = {"steps", "solver", "guidance", "rescale", "interval", "clip", "level"}
        enlarging = self.config.model_dump(mode="json", include=deciding)
        return {"base": {**self.base.sampler, "seed": self.base.seed}, "upsampler": enlarging}

    @property
    def seed(self) -> int:
        """The seed of the upsampler's noise."""
        return self.config.seed

    def draw(self, rows: Sequence[Row], monitor: Monitor) -> np.ndarray:
        """Return one image for each row; see `Source.draw`. Raises AmalgamError if the base draws another size."""
        small = self.base.draw(rows, monitor)
        text = self.encoder.encode([row["caption"] for row in rows])
        return upsample(self.config, self.upsampler, small, rows, text, self.device, monitor)


def open_cascade(config: UpsamplingConfig, base: Source, folder: Path, device: torch.device) -> Cascade:
    """Return `base` followed by the upsampler in `folder`."""
    upsampler = load_upsampler(folder, device)
    given = upsampler.model.conditioner.config
    return Cascade(base, upsampler, config, TextEncoder(given["encoder"], given["max_tokens"], device), device)
