"""Sampling of the planned images, shard by shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.conditioning import gather
from ops.generate.config import SyntheticShardsConfig
from ops.generate.diffusion import Generator, load_generator
from ops.generate.flow import guided, solve
from ops.generate.shards import write_synthetic
from ops.generate.source import Row
from ops.generate.text import TextTokens, encode_captions
from ops.progress import Monitor
from ops.runtime import generator as seeded
from ops.summary import Summary


def generate_shards(
    config: SyntheticShardsConfig,
    plan: Path,
    diffusion: Path,
    autoencoder: Path,
    out: Path,
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Sample every row of the plan into a shard folder (split `train`, source `synthetic`).

    The noise of an image follows from (seed, its number in the plan); see `write_synthetic`.
    """
    rows = pq.read_table(plan / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    source = load_generator(diffusion, autoencoder, device)
    text = encode_captions(
        [r["caption"] for r in rows], source.model.conditioner.config.max_tokens, scratch, device, monitor
    )
    made = DiffusionSource(config, source, text, device)
    write_synthetic(made, rows, read_json(plan / "dataset.json"), out, scratch, config.shard_size, monitor)
    return Summary({"images": len(rows), "sampler": f"{config.solver} {config.steps}", "guidance": config.guidance})


@torch.no_grad()
def sample_rows(
    config: SyntheticShardsConfig,
    source: Generator,
    rows: Sequence[dict[str, Any]],
    text: TextTokens,
    device: torch.device,
    monitor: Monitor,
    done: int = 0,
    total: int = 0,
) -> np.ndarray:
    """Return one image for each row of a plan as (N, H, W, 3) uint8; raises AmalgamError for values that are no numbers."""
    codes = source.model.conditioner.encode(rows)
    captions = text.rows([row["caption"] for row in rows])
    images = []
    for start in range(0, len(rows), config.batch):
        part = slice(start, start + config.batch)
        noise = torch.stack(
            [torch.randn(source.latent, generator=seeded(config.seed, "noise", row["index"])) for row in rows[part]]
        ).to(device)
        conditions = gather(text, captions[part], codes[part])
        none = conditions.null(source.model.conditioner.sizes).to(device)
        conditions = conditions.to(device)

        def velocity(x: torch.Tensor, t: torch.Tensor, given: Any = conditions, null: Any = none) -> torch.Tensor:
            conditional = source.model(x, t, given)
            if config.guidance == 1:
                return conditional
            return guided(conditional, source.model(x, t, null), config.guidance)

        latents = solve(velocity, noise, config.steps, heun=config.solver == "heun")
        x = source.vae.decode(latents / source.vae.config.scaling_factor).sample
        if not torch.isfinite(x).all():
            raise AmalgamError(
                "the generator made values that are no numbers", "train it again: python -m pipelines run diffusion"
            )
        x = ((x + 1) / 2).clamp(0, 1)
        images.append((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        monitor.progress(done + min(start + config.batch, len(rows)), total or len(rows), "image")
    return np.concatenate(images)


@dataclass(frozen=True)
class DiffusionSource:
    """The diffusion model as a `Source`; `text` holds the captions of all rows that it will be asked for."""

    config: SyntheticShardsConfig
    generator: Generator
    text: TextTokens
    device: torch.device

    @property
    def name(self) -> str:
        """The word `diffusion`."""
        return "diffusion"

    @property
    def identity(self) -> str:
        """SHA-256 of the U-Net's weights."""
        return self.generator.identity

    @property
    def sampler(self) -> dict[str, Any]:
        """Solver, steps and guidance."""
        return {"solver": self.config.solver, "steps": self.config.steps, "guidance": self.config.guidance}

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return self.config.seed

    def draw(self, rows: Sequence[Row], monitor: Monitor) -> np.ndarray:
        """Return one image for each row; see `sample_rows`."""
        return sample_rows(self.config, self.generator, [dict(row) for row in rows], self.text, self.device, monitor)
