"""Settings of the generator."""

from typing import Literal

from pydantic import Field

from ops.config import Config


class AutoencoderConfig(Config):
    """The KL autoencoder."""

    channels: list[int] = Field([16, 32, 64], description="Channels by resolution; each level but the first halves it.")
    latent_channels: int = Field(8, ge=1, description="Channels of the latents.")
    steps: int = Field(400, ge=1, description="Optimizer steps.")
    batch: int = Field(16, ge=1, description="Images in a batch.")
    lr: float = Field(2e-3, gt=0, description="Peak learning rate (AdamW, warm-up and cosine).")
    kl_weight: float = Field(1e-5, ge=0, description="Weight of the KL term against the mean reconstruction error.")
    edge_weight: float = Field(0.25, ge=0, description="Weight of the error of the images' gradients.")
    bf16: bool = Field(True, description="Compute in bfloat16 where that is safe (weights stay float32).")
    seed: int = Field(0, description="Seed of initialisation and batches.")


class DiffusionConfig(Config):
    """The latent diffusion model: a U-Net trained with rectified flow."""

    channels: list[int] = Field([48, 96], description="Channels of the U-Net; all but the first level attend.")
    context: int = Field(96, ge=8, description="Width of the tokens that the U-Net attends to.")
    max_tokens: int = Field(20, ge=4, description="Word pieces of a caption that are kept.")
    steps: int = Field(600, ge=1, description="Optimizer steps.")
    batch: int = Field(64, ge=1, description="Images in a batch.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate (AdamW, warm-up and cosine).")
    drop: float = Field(
        0.1, ge=0, lt=1, description="Probability with which each conditioning is dropped, independently."
    )
    drop_all: float = Field(0.1, ge=0, lt=1, description="Probability with which all are dropped together.")
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the weight average that samples.")
    bf16: bool = Field(False, description="Compute in bfloat16 where that is safe (weights stay float32).")
    seed: int = Field(0, description="Seed of initialisation, batches, times and noise.")


class SyntheticShardsConfig(Config):
    """How the planned images are sampled."""

    steps: int = Field(8, ge=1, description="Solver steps.")
    solver: Literal["euler", "heun"] = Field("heun", description="Heun evaluates the model twice in a step.")
    guidance: float = Field(2.0, ge=0, description="Classifier-free guidance weight; 1 is plain conditional sampling.")
    batch: int = Field(128, ge=1, description="Images sampled together (does not change the images).")
    shard_size: int = Field(500, ge=1, description="Images in one shard; a killed run loses at most one.")
    seed: int = Field(0, description="Seed of the noise, with the image's number in the plan.")
