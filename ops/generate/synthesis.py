"""The planned images, sampled from the diffusion model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.files import read_json
from ops.generate.cascade import open_cascade
from ops.generate.generator import Generator
from ops.generate.pipeline import load_generator
from ops.generate.sampler_config import SamplerConfig
from ops.generate.sampling import sample_rows
from ops.generate.shards import write_synthetic
from ops.generate.source import Row, Source
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.generate.text import TextEncoder
from ops.launching import Launcher
from ops.progress import Monitor
from ops.sample.reading import PlanRows, count_copies
from ops.summary import Summary


def generate_shards(
    config: SyntheticShardsConfig,
    plan: Path,
    diffusion: Path,
    out: Path,
    scratch: Path,
    launcher: Launcher,
    monitor: Monitor,
    upsampler: Path | None = None,
    real: Path | None = None,
) -> Summary:
    """Sample every row of the plan into a shard folder (split `train`, source `synthetic`).

    The noise of an image follows from (seed, its number in the plan); see `write_synthetic`. Memory does not grow with
    the number of images: plan and manifest are streamed, captions encoded with the shard that they belong to. `upsampler` is
    the second stage of a cascade; `real` are the shards that the plan was made from, which are needed where it repeats
    training images (`sampling_plan.gate`).
    """
    path = plan / "plan.parquet"
    rows, opened = PlanRows(path), Opening(config, diffusion, upsampler)
    dataset = read_json(plan / "dataset.json")
    write_synthetic(opened, rows, dataset, out, scratch, config.shard_size, launcher, monitor, real)
    lineage = read_json(diffusion / "generator.json")["lineage"]
    figures = {"images": len(rows), "training images repeated": count_copies(path)}
    sampler = f"{config.solver} {config.steps}"
    return Summary({**figures, "sampler": sampler, "guidance": str(config.guidance), "generator": lineage})


@dataclass
class Opening:
    """Opens the generator in `diffusion`, followed by `upsampler` if there is one, once in each process that asks for it."""

    config: SyntheticShardsConfig
    diffusion: Path
    upsampler: Path | None
    _source: Source | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def __call__(self, device: torch.device) -> Source:
        """Return it as a source on `device`."""
        if self._source is None:
            self._source = self._open(device)
        return self._source

    def _open(self, device: torch.device) -> Source:
        generator = load_generator(self.diffusion, device)
        given = generator.model.conditioner.config
        encoder = TextEncoder(given["encoder"], given["max_tokens"], device)
        base = DiffusionSource(self.config, generator, encoder, device)
        if self.upsampler is None:
            return base
        return open_cascade(self.config.upsampling, base, self.upsampler, device)


@dataclass(frozen=True)
class DiffusionSource:
    """The diffusion model as a `Source`; captions are encoded as they come."""

    config: SamplerConfig
    generator: Generator
    encoder: TextEncoder
    device: torch.device

    @property
    def name(self) -> str:
        """The word `diffusion`."""
        return "diffusion"

    @property
    def identity(self) -> str:
        """SHA-256 of the generator's weights."""
        return self.generator.identity

    @property
    def sampler(self) -> dict[str, Any]:
        """The settings that decide an image, beside the seed."""
        return self.config.model_dump(
            mode="json", include={"steps", "solver", "guidance", "rescale", "interval", "clip"}
        )

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return self.config.seed

    def draw(self, rows: Sequence[Row], monitor: Monitor) -> np.ndarray:
        """Return one image for each row, (N, H, W, 3) uint8."""
        text = self.encoder.encode([row["caption"] for row in rows])
        return sample_rows(self.config, self.generator, rows, text, self.device, monitor)
