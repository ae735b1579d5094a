"""Settings of the data stages."""

from typing import Literal

from pydantic import Field

from ops.config import Config


class RawImagesConfig(Config):
    """What to read."""

    dataset: str = Field(description="Folder of raw data, relative to the project, such as data/emoji-people.")
    image_size: int = Field(32, ge=8, description="Side in pixels; images of another size are resized.")
    shard_size: int = Field(2000, ge=1, description="Images in one shard.")
    limit: int = Field(
        0, ge=0, description="Keep about this many images, every class and domain thinned alike; 0 is all."
    )
    seed: int = Field(0, description="Seed of that choice.")


class ManifestConfig(Config):
    """How images are split, and what the training split is made to lack."""

    seed: int = Field(0, description="Seed of the splits.")
    shift_domains: list[str] = Field(description="Domains kept out of training: the out-of-distribution splits.")
    validation_share: float = Field(0.12, ge=0, lt=1, description="Share of the concepts for validation.")
    test_share: float = Field(0.28, ge=0, lt=1, description="Share of the concepts for the test split.")
    near_values_per_concept: int = Field(
        1, ge=0, description="Attribute values of each training concept kept for `near`."
    )
    attribute: str = Field("tone", description="The attribute that is made rare and that `near` holds out.")
    rare_values: list[str] = Field(default=[], description="Values that the training split under-represents.")
    rare_keep: float = Field(
        1.0, gt=0, le=1, description="Share of the training images with those values that is kept."
    )


class CuratedManifestConfig(Config):
    """What is fit to learn from."""

    min_contrast: float = Field(
        0.02, ge=0, description="Least standard deviation of the pixels, in [0, 1]; less is blank."
    )
    min_entropy: float = Field(0.3, ge=0, description="Least entropy of the grey histogram, in bits.")
    duplicate_distance: int = Field(
        0, ge=0, le=16, description="Perceptual-hash bits within which images are near-duplicates."
    )
    duplicate_error: float = Field(
        0.004, ge=0, description="Mean squared pixel difference within which they are duplicates."
    )
    min_class_images: int = Field(20, ge=1, description="Least training images of each class.")
    seed: int = Field(0, description="Seed of the choice of caption templates.")


class RealShardsConfig(Config):
    """How shards are cut."""

    shard_size: int = Field(1000, ge=1, description="Images in one shard.")


Split = Literal["train", "validation", "test", "near", "shift", "shift_seen", "shift_unseen", "withheld", "unlabelled"]
UNLABELLED = "unlabelled"
"""The split of images without a label: generators learn from them too, and nobody else does."""
