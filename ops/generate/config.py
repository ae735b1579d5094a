"""Settings of the autoencoder."""

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
