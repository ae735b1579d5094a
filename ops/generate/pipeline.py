"""The generator as a diffusers pipeline: one folder, saved with `save_pretrained`, that makes images from prompts.

    from ops.generate.pipeline import PromptPipeline
    pipe = PromptPipeline.from_pretrained("store/diffusion/model", use_safetensors=True, low_cpu_mem_usage=False)
    images = pipe([{"caption": "a noto drawing of woman astronaut", "label": "role"}], seed=0).images

What a prompt does not name is dropped, as it was at times in training. `torch` and the text encoder's package are all
that it needs beside this module's own imports; the pipeline stages use the same parts without this class.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from pydantic import TypeAdapter

from ops.errors import AmalgamError
from ops.generate.backbones import LatentModel
from ops.generate.codec import LOCAL, Codec, KLCodec, PixelCodec
from ops.generate.conditioning import Conditioner
from ops.generate.generator import Generator
from ops.generate.model_config import ObjectiveConfig
from ops.generate.objectives import Objective, objective_of
from ops.generate.sampler_config import SamplerConfig
from ops.generate.sampling import sample_rows
from ops.generate.text import encode_captions
from ops.progress import Silent

MODEL = "model"
"""The pipeline's folder in the artefact of the stage `diffusion`."""


class PromptPipeline(DiffusionPipeline):
    """Prompts to images; a prompt is a mapping with any of caption, label, domain and attributes."""

    _optional_components = ["vae"]

    def __init__(
        self,
        backbone: torch.nn.Module,
        conditioner: Conditioner,
        vae: AutoencoderKL | None = None,
        objective: dict[str, Any] | None = None,
        pixels: dict[str, Any] | None = None,
        codec: str = "",
    ) -> None:
        super().__init__()
        self.register_modules(backbone=backbone, conditioner=conditioner, vae=vae)
        self.register_to_config(objective=objective, pixels=pixels, codec=codec)

    @property
    def objective(self) -> Objective:
        """What the network learnt."""
        return objective_of(TypeAdapter(ObjectiveConfig).validate_python(dict(self.config.objective)))

    @property
    def codec(self) -> Codec:
        """The space in which it samples; raises ValueError if the folder has neither an autoencoder nor pixels."""
        if self.vae is not None:
            return KLCodec(self.vae, self.config.codec)
        if self.config.pixels is None:
            raise ValueError("the pipeline has neither an autoencoder nor statistics of pixels")
        record = self.config.pixels
        mean, std = (torch.tensor(record[k]).view(3, 1, 1).to(self.device) for k in ("mean", "std"))
        side = int(record["image_size"])
        return PixelCodec((3, side, side), mean, std, self.config.codec)

    def generator(self) -> Generator:
        """Return the parts that sample, frozen."""
        model = LatentModel(self.backbone, self.conditioner).eval().requires_grad_(False)
        return Generator(model, self.codec, self.objective)

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[Mapping[str, Any]],
        seed: int = 0,
        cache: str | Path | None = None,
        output_type: str = "pil",
        **settings: Any,
    ) -> ImagePipelineOutput:
        """Return one image for each prompt, as PIL images or ("np") an array (N, H, W, 3) uint8.

        `settings` are those of `SamplerConfig` (steps, solver, guidance, ...). The noise of prompt i follows from
        (seed, i). `cache` is a folder for encoded captions; none are kept by default.

        Raises AmalgamError for a value that the generator does not know.
        """
        source = self.generator()
        names = [name for name in self.conditioner.names if name not in ("label", "domain")]
        rows = [
            {
                "index": number,
                "caption": prompt.get("caption", ""),
                "label": prompt.get("label"),
                "domain": prompt.get("domain"),
                "attributes": {name: None for name in names} | dict(prompt.get("attributes", {})),
            }
            for number, prompt in enumerate(prompts)
        ]
        config = SamplerConfig(seed=seed, **settings)
        with TemporaryDirectory() as scratch:
            given = self.conditioner.config
            text = encode_captions(
                [row["caption"] for row in rows],
                given["max_tokens"],
                Path(cache or scratch),
                self.device,
                Silent(),
                given["encoder"],
            )
        images: np.ndarray = sample_rows(config, source, rows, text, self.device, Silent())
        return ImagePipelineOutput(images=images if output_type == "np" else [Image.fromarray(i) for i in images])


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Return the generator that the stage `diffusion` wrote to `folder`; AmalgamError if it cannot be read."""
    remedy = "python -m pipelines run diffusion"
    if not (folder / MODEL / "model_index.json").exists():
        raise AmalgamError(f"no generator in {folder.name}: {MODEL}/model_index.json is missing", remedy)
    disable_progress_bar()  # the monitor shows progress
    try:
        pipeline = PromptPipeline.from_pretrained(str(folder / MODEL), **LOCAL)
    except (OSError, ValueError, KeyError) as error:
        raise AmalgamError(f"no generator in {folder.name}: {str(error)[:300]}", remedy) from None
    return pipeline.to(device).generator()
