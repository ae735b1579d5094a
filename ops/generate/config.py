"""Settings of the generator."""

from typing import Annotated, Literal

from pydantic import Field

from ops.config import Config

Width = Annotated[int, Field(ge=8, multiple_of=8)]


class AdversarialConfig(Config):
    """The adversarial term of the autoencoder: a discriminator of patches that learns beside it."""

    weight: float = Field(
        0.0, ge=0, description="Pull of the term in units of the reconstruction error's gradient; 0 switches it off."
    )
    start: int = Field(200, ge=0, description="Step from which discriminator and term take part.")
    channels: list[Annotated[int, Field(ge=1)]] = Field(
        [32, 64, 64], min_length=1, description="Channels of the discriminator; all levels but the last halve."
    )
    lr: float = Field(
        5e-4, gt=0, description="Peak learning rate of the discriminator (AdamW, schedule of the autoencoder)."
    )


class AutoencoderConfig(Config):
    """The space in which the diffusion model works: latents of a KL autoencoder, or pixels."""

    space: Literal["latent", "pixel"] = Field(
        "latent",
        description="latent trains the autoencoder; pixel needs none, and costs more for each step of diffusion.",
    )
    channels: list[Width] = Field(
        [16, 32, 64],
        min_length=1,
        description="Channels by resolution, multiples of 8; each level but the first halves it.",
    )
    latent_channels: int = Field(8, ge=1, description="Channels of the latents.")
    steps: int = Field(400, ge=1, description="Optimizer steps from untrained weights.")
    finetune_steps: int = Field(0, ge=0, description="Optimizer steps from given weights; 0 takes them as they are.")
    batch: int = Field(16, ge=1, description="Images in a batch.")
    lr: float = Field(2e-3, gt=0, description="Peak learning rate (AdamW, warm-up and cosine).")
    kl_weight: float = Field(1e-5, ge=0, description="Weight of the KL term against the mean reconstruction error.")
    edge_weight: float = Field(0.25, ge=0, description="Weight of the error of the images' gradients.")
    perceptual_weight: float = Field(
        0.1, ge=0, description="Weight of the distance in the eyes of the scorer's classifiers; 0 needs no classifier."
    )
    adversarial: AdversarialConfig = Field(AdversarialConfig(), description="The adversarial term.")
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
