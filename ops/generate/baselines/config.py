"""Settings of the baselines."""

from typing import Literal

from pydantic import Field, field_validator

from ops.config import Config

Kind = Literal["gaussian", "mixture", "bootstrap"]


class GaussianConfig(Config):
    """One Gaussian for each condition, on the pixels."""

    shrinkage: Literal["ledoit_wolf", "none"] = Field(
        "ledoit_wolf",
        description="Shrink the covariance towards a multiple of the identity, or keep the (singular) empirical one.",
    )


class MixtureConfig(Config):
    """A kernel density for each condition, in the principal components of all training images."""

    components: int = Field(64, ge=1, description="Principal components; what they leave out, no image has.")
    bandwidths: list[float] = Field(
        [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0],
        min_length=1,
        description="Bandwidths to choose from by held-out likelihood, in standard deviations of the components.",
    )

    @field_validator("bandwidths")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        if not all(0 < each < float("inf") for each in value):
            raise ValueError("a bandwidth is a positive number")
        return sorted(set(value))


class BootstrapConfig(Config):
    """Training images, redrawn."""

    flip: bool = Field(False, description="Mirror half of the images.")
    crop: int = Field(0, ge=0, description="Shift images by up to this many pixels; the edge is repeated.")


class BaselinesConfig(Config):
    """Simple image sources that a learned generator must beat."""

    kinds: list[Kind] = Field(["gaussian", "mixture", "bootstrap"], min_length=1, description="Which to make.")
    images: int = Field(
        1000, ge=0, description="At most this many rows of the plan, from its start, are drawn; 0 is all."
    )
    attribute: str = Field(
        "tone", description="Attribute that, with the class, is the condition. Empty: the class alone."
    )
    min_images: int = Field(
        20,
        ge=2,
        description="Where a class has fewer images with an attribute value, all of the class are used (the bootstrap "
        "needs one).",
    )
    fit_images: int = Field(
        5000,
        ge=2,
        description="At most this many images, drawn at random, are used in one fit: bounds time and memory.",
    )
    gaussian: GaussianConfig = GaussianConfig()
    mixture: MixtureConfig = MixtureConfig()
    bootstrap: BootstrapConfig = BootstrapConfig()
    shard_size: int = Field(500, ge=1, description="Images in one shard; a killed run loses at most one.")
    seed: int = Field(0, description="Seed of the draws, with the image's number in the plan.")

    @field_validator("kinds")
    @classmethod
    def _distinct(cls, value: list[Kind]) -> list[Kind]:
        if len(set(value)) < len(value):
            raise ValueError("a baseline is named twice")
        return value
