"""The planned images, sampled from the diffusion model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from ops.files import read_json
from ops.generate.cascade import open_cascade
from ops.generate.generator import Generator
from ops.generate.oversampling import is_copy
from ops.generate.pipeline import load_generator
from ops.generate.sampler_config import SamplerConfig
from ops.generate.sampling import sample_rows
from ops.generate.shards import write_synthetic
from ops.generate.source import Row, Source
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.generate.text import TextTokens, encode_captions
from ops.progress import Monitor
from ops.summary import Summary


def generate_shards(
    config: SyntheticShardsConfig,
    plan: Path,
    diffusion: Path,
    out: Path,
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
    upsampler: Path | None = None,
    real: Path | None = None,
) -> Summary:
    """Sample every row of the plan into a shard folder (split `train`, source `synthetic`).

    The noise of an image follows from (seed, its number in the plan); see `write_synthetic`. Memory does not grow with
    the number of images, only with that of distinct captions. `upsampler` is the second stage of a cascade; `real` are the
    shards that the plan was made from, which are needed where it repeats training images (`sampling_plan.gate`).
    """
    rows = pq.read_table(plan / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    captions = [row["caption"] for row in rows if not is_copy(row)]
    source = open_source(config, diffusion, upsampler, captions, scratch, device, monitor)
    dataset = read_json(plan / "dataset.json")
    write_synthetic(source, rows, dataset, out, scratch, config.shard_size, monitor, real)
    lineage = read_json(diffusion / "generator.json")["lineage"]
    figures = {"images": len(rows), "training images repeated": len(rows) - len(captions)}
    sampler = f"{config.solver} {config.steps}"
    return Summary({**figures, "sampler": sampler, "guidance": str(config.guidance), "generator": lineage})


def open_source(
    config: SyntheticShardsConfig,
    diffusion: Path,
    upsampler: Path | None,
    captions: Sequence[str],
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Source:
    """Return the generator in `diffusion`, followed by `upsampler` if there is one, as a source for rows with `captions`."""
    generator = load_generator(diffusion, device)
    given = generator.model.conditioner.config
    text = encode_captions(captions, given["max_tokens"], cache, device, monitor, given["encoder"])
    base = DiffusionSource(config, generator, text, device)
    if upsampler is None:
        return base
    return open_cascade(config.upsampling, base, upsampler, captions, cache, device, monitor)


@dataclass(frozen=True)
class DiffusionSource:
    """The diffusion model as a `Source`; `text` holds the captions of all rows that it will be asked for."""

    config: SamplerConfig
    generator: Generator
    text: TextTokens
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
        return sample_rows(self.config, self.generator, rows, self.text, self.device, monitor)
