"""Settings of the autoencoder."""

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
    start: str | None = Field(None, description="Folder of a trained autoencoder in data/ to start from.")
    batch: int = Field(16, ge=1, description="Images in a batch.")
    unlabelled: bool = Field(True, description="Learn from the split unlabelled too, where there is one.")
    lr: float = Field(2e-3, gt=0, description="Peak learning rate (AdamW, warm-up and cosine).")
    kl_weight: float = Field(1e-5, ge=0, description="Weight of the KL term against the mean reconstruction error.")
    edge_weight: float = Field(0.25, ge=0, description="Weight of the error of the images' gradients.")
    perceptual_weight: float = Field(
        0.1, ge=0, description="Weight of the distance in the eyes of the scorer's classifiers; 0 needs no classifier."
    )
    adversarial: AdversarialConfig = Field(AdversarialConfig(), description="The adversarial term.")
    bf16: bool = Field(True, description="Compute in bfloat16 where that is safe (weights stay float32).")
    seed: int = Field(0, description="Seed of initialisation and batches.")
