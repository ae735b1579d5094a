"""Our diffusion model in the pipelines that diffusers ships for `UNet2DModel`, which know neither prompts nor our network."""

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, DiffusionPipeline
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput

from ops.generate.backbones import LatentModel
from ops.generate.conditioning import Conditions
from ops.generate.generator import Generator
from ops.generate.objectives import DDPM

SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
"""What the model was trained with; everything else is as the schedulers come."""


class Unconditional(ModelMixin, ConfigMixin):
    """A conditional model with all conditions dropped, with the face of a `UNet2DModel`."""

    config_name = "config.json"

    def __init__(self, model: LatentModel, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_to_config(in_channels=shape[0], out_channels=shape[0], sample_size=shape[1])
        self.model = model

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> UNet2DOutput:
        """Return the output for `sample` (B, C, H, W) at one time for all, a number or a tensor ()."""
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        return UNet2DOutput(sample=self.model(sample, times, nothing(self.model, len(sample)).to(sample.device)))


def nothing(model: LatentModel, count: int) -> Conditions:
    """Return `count` rows in which everything is dropped, on the CPU."""
    given, sizes = model.conditioner.config, model.conditioner.sizes
    tokens = torch.zeros(count, given["max_tokens"], given["width"])
    return Conditions(tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool), torch.tensor(sizes).expand(count, -1))


def ddpm(source: Generator) -> DDPMPipeline:
    """Return `DDPMPipeline` with the network of `source`, which must predict v on the cosine schedule, in [-1, 1]."""
    return _quiet(DDPMPipeline(_network(source), DDPMScheduler(**SCHEDULE)))


def ddim(source: Generator) -> DDIMPipeline:
    """Return `DDIMPipeline` with the network of `source`, which must predict v on the cosine schedule, in [-1, 1]."""
    return _quiet(DDIMPipeline(_network(source), DDIMScheduler(**SCHEDULE)))


def _network(source: Generator) -> Unconditional:
    assert isinstance(source.objective, DDPM)
    assert source.objective.config.prediction == "v"
    assert not source.objective.config.zero_terminal_snr
    return Unconditional(source.model, source.codec.latent).eval()


def _quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, 3) float in [0, 1], as pipelines give them, as uint8."""
    return (images * 255).round().astype(np.uint8)
