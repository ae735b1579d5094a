"""A base source and the model that enlarges what it draws: one source of large images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.generate.source import Row, Source
from ops.generate.text import TextTokens, encode_captions
from ops.generate.upsampler_config import UpsamplingConfig
from ops.generate.upsampling import Upsampler, load_upsampler, upsample
from ops.progress import Monitor


@dataclass(frozen=True)
class Cascade:
    """A `Source` whose images are those of `base`, enlarged; `text` holds the captions of all rows it will be asked for."""

    base: Source
    upsampler: Upsampler
    config: UpsamplingConfig
    text: TextTokens
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
        return upsample(self.config, self.upsampler, small, rows, self.text, self.device, monitor)


def open_cascade(
    config: UpsamplingConfig,
    base: Source,
    folder: Path,
    captions: Sequence[str],
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Cascade:
    """Return `base` followed by the upsampler in `folder`, for rows with `captions` (encoded once, kept in `cache`)."""
    upsampler = load_upsampler(folder, device)
    given = upsampler.model.conditioner.config
    text = encode_captions(captions, given["max_tokens"], cache, device, monitor, given["encoder"])
    return Cascade(base, upsampler, config, text, device)
