"""Settings of the report on synthetic images."""

from typing import Literal

from pydantic import Field

from ops.config import Config

Augmented = Literal["crop and flip", "RandAugment", "CutMix"]


class SyntheticReportConfig(Config):
    """What is said of the synthetic images before anyone learns from them."""

    spaces: list[str] = Field(
        ["efficientnet-lite0"],
        min_length=1,
        description="Feature spaces of nearest neighbours: efficientnet-lite0, classifier, pca or colours.",
    )
    lite0_size: int = Field(96, ge=32, description="efficientnet-lite0: side in pixels that images are resized to.")
    components: int = Field(
        100, ge=1, description="Principal components of the features, fitted on training images, that are compared."
    )
    images: int = Field(1000, ge=10, description="At most this many images of each kind.")
    held_out: str = Field("validation", description="Split of real images that no generator learnt from.")
    augmented: list[Augmented] = Field(
        ["crop and flip", "RandAugment", "CutMix"], description="Augmented training images, for comparison."
    )
    min_cell: int = Field(
        10, ge=1, description="Cells of class and group with fewer planned images get no acceptance rate of their own."
    )
    batch: int = Field(32, ge=1, description="Images that are embedded together.")
    replicates: int = Field(1000, ge=100, description="Bootstrap replicates of the evenness.")
    seed: int = Field(0, description="Seed of the choice of images, of augmentation and of the bootstrap.")
