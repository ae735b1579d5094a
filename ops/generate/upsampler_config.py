"""Settings of the cascade: a diffusion model that enlarges images, and how it is sampled."""

from typing import Literal

from pydantic import Field, model_validator

from ops.config import Config
from ops.generate.sampler_config import SamplerConfig


class UpsamplerConfig(Config):
    """The diffusion model that enlarges images, trained with rectified flow in pixel space."""

    factor: int = Field(2, ge=2, description="How much larger images become; divides their size.")
    channels: list[int] = Field(
        [32, 48, 64], description="Channels of the U-Net by level; only the last, the coarsest, attends."
    )
    context: int = Field(64, ge=8, description="Width of the tokens that the U-Net attends to.")
    encoder: str = Field("minilm", description="Text encoder: minilm, or a folder of a transformers encoder in data/.")
    max_tokens: int = Field(20, ge=4, description="Word pieces of a caption that are kept.")
    max_level: float = Field(
        0.5, ge=0, le=1, description="Small images are corrupted with a share of noise between 0 and this in training."
    )
    steps: int = Field(1000, ge=1, description="Optimizer steps.")
    batch: int = Field(16, ge=1, description="Images in a batch.")
    unlabelled: bool = Field(
        True, description="Learn from the split unlabelled too, where there is one, told what is known of its images."
    )
    lr: float = Field(1e-3, gt=0, description="Peak learning rate (AdamW, warm-up and cosine).")
    drop: float = Field(
        0.1, ge=0, lt=1, description="Probability with which each conditioning is dropped, independently."
    )
    drop_all: float = Field(0.1, ge=0, lt=1, description="Probability with which all are dropped together.")
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the weight average that samples.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="What the network computes in.")
    validation_images: int = Field(128, ge=12, description="Validation images that are enlarged to measure quality.")
    seed: int = Field(0, description="Seed of initialisation, batches, times and noise.")

    @model_validator(mode="after")
    def _groups(self) -> "UpsamplerConfig":
        odd = [width for width in self.channels if width <= 0 or width % 8]
        if odd or len(self.channels) < 2:
            raise ValueError("channels: at least two levels, each a multiple of 8")
        return self


class UpsamplingConfig(SamplerConfig):
    """How small images are enlarged."""

    guidance: float | dict[str, float] = Field(
        1.0, description="As for the diffusion model; most of what is asked for already is in the small image."
    )
    clip: float | None = Field(1.0, gt=0, description="Bound on predicted pixels; 1 is black and white, null is none.")
    batch: int = Field(64, ge=1, description="Images enlarged together (does not change the images).")
    level: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of noise that small images are corrupted with: hides what the base gets wrong.",
    )
