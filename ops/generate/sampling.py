"""From rows of a plan to images: noise, guidance, solver, decoder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ops.errors import AmalgamError
from ops.generate.conditioning import gather
from ops.generate.generator import Generator
from ops.generate.guidance import guided_denoiser
from ops.generate.sampler_config import SamplerConfig
from ops.generate.solvers import solve
from ops.generate.text import TextTokens
from ops.progress import Monitor
from ops.runtime import generator as seeded


@torch.no_grad()
def sample_rows(
    config: SamplerConfig,
    source: Generator,
    rows: Sequence[Mapping[str, Any]],
    text: TextTokens,
    device: torch.device,
    monitor: Monitor,
) -> np.ndarray:
    """Return one image for each row of a plan as (N, H, W, 3) uint8.

    The noise of a row follows from (seed, its index): batches change images by rounding only.

    Raises AmalgamError for a value that the generator does not know, or if images are no numbers.
    """
    codes = source.model.conditioner.encode(rows)
    captions = text.rows([row["caption"] for row in rows])
    images = []
    for start in range(0, len(rows), config.batch):
        part = slice(start, start + config.batch)
        noise = torch.stack(
            [
                torch.randn(source.codec.latent, generator=seeded(config.seed, "noise", row["index"]))
                for row in rows[part]
            ]
        ).to(device)
        conditions = gather(text, captions[part], codes[part]).to(device)
        denoiser = guided_denoiser(source.model, source.objective, conditions, config)
        x = source.codec.decode(solve(denoiser, source.objective, noise, config.steps, config.solver))
        if not torch.isfinite(x).all():
            raise AmalgamError(
                "the generator made values that are no numbers",
                f"lower guidance ({config.guidance}) or set clip (3, say); if that does not help, train again: "
                "python -m pipelines run diffusion",
            )
        images.append((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        monitor.progress(min(start + config.batch, len(rows)), len(rows), "image")
    return np.concatenate(images)
