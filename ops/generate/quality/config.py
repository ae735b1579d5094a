"""Settings of the quality report."""

from pydantic import Field, field_validator, model_validator

from ops.config import Config
from ops.models.config import Architecture
from ops.train.augmentation.config import Augmentation
from ops.train.recipe import Averaging, Mix, Recipe, Schedule

LITE0, CLASSIFIER, PCA, COLOURS = "efficientnet-lite0", "classifier", "pca", "colours"
BUILT_IN = (LITE0, CLASSIFIER, PCA, COLOURS)

UTILITY = Recipe(
    description="Clean training, for the classification accuracy score.",
    architecture=Architecture(widths=[16, 32, 64], blocks=[1, 1, 1], stem_stride=2),
    loss="clean",
    augmentation=Augmentation(crop=2, padding="edge", flip=True),
    averaging=Averaging(decay=0.98),
    mix=Mix(real_fraction=1.0),
    schedule=Schedule(epochs=8, batch=64, lr=0.1),
)


class QualityConfig(Config):
    """How sources of images are judged."""

    spaces: list[str] = Field(
        [LITE0, CLASSIFIER, PCA],
        min_length=1,
        description="Feature spaces of distances and manifolds: efficientnet-lite0, classifier, pca, colours, or a name in "
        "`encoders`.",
    )
    encoders: dict[str, str] = Field(
        {},
        description="Your own vision encoders (ViT, DINOv2, CLIP) as spaces: a name, and a folder below data/ that "
        "save_pretrained wrote.",
    )
    lite0_size: int = Field(96, ge=32, description="efficientnet-lite0: side in pixels that images are resized to.")
    components: int = Field(64, ge=1, description="pca: components, fitted on the real training images.")
    batch: int = Field(32, ge=1, description="Images that are embedded or classified together.")
    images: int = Field(
        2000, ge=10, description="At most this many images of each source and each real split are used."
    )
    neighbours: int = Field(5, ge=1, description="k of precision, recall, density and coverage.")
    bandwidth: float = Field(10.0, gt=0, description="Gaussian kernel distance: sigma, for features of length 1.")
    half_samples: int = Field(8, ge=4, description="Half-samples that the intervals of Fréchet distances come from.")
    replicates: int = Field(1000, ge=1, description="Bootstrap replicates of densities and of gaps between groups.")
    min_group: int = Field(40, ge=10, description="Groups with fewer images than this get no row.")
    judges: list[str] = Field(
        [LITE0, COLOURS],
        min_length=1,
        description="Feature spaces, put side by side, that the judges of alignment see.",
    )
    judge_strength: float = Field(10.0, gt=0, description="Inverse of the judges' regularisation (scikit-learn's C).")
    rare: int = Field(
        10, ge=1, description="Combinations of class and group seen at most this often in training are rare."
    )
    count_attribute: str | None = Field(
        None, description="Attribute with the number of things that a caption asks for; null: captions have no numbers."
    )
    utility: Recipe = Field(
        UTILITY,
        description="Recipe of the classification accuracy score; its epochs are counted in the images that every source "
        "trains on.",
    )
    seed: int = Field(0, description="Seed of all draws and of the classifiers.")

    @field_validator("utility")
    @classmethod
    def _learns_from_one_source(cls, utility: Recipe) -> Recipe:
        if utility.initialisation != "scratch":
            raise ValueError("initialisation must be scratch: another model has seen real images")
        if utility.uses_synthetic:
            raise ValueError("mix.real_fraction must be 1: each classifier learns from one source alone")
        return utility

    @model_validator(mode="after")
    def _has_neighbours(self) -> "QualityConfig":
        if self.min_group <= self.neighbours:
            raise ValueError("min_group must be larger than neighbours: a group's images are each other's neighbours")
        return self

    @model_validator(mode="after")
    def _knows_its_spaces(self) -> "QualityConfig":
        taken = sorted(set(self.encoders) & set(BUILT_IN))
        if taken:
            raise ValueError(f"encoders may not be called {', '.join(taken)}: these are built in")
        known = [*BUILT_IN, *self.encoders]
        for field in ("spaces", "judges"):
            names = getattr(self, field)
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ValueError(f"{field} names {', '.join(unknown)}; known are {', '.join(known)}")
            if len(set(names)) != len(names):
                raise ValueError(f"{field} names a space twice")
        return self
