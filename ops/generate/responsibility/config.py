"""Settings of what a generator must answer for."""

from pydantic import Field

from ops.config import Config


class MemorisationConfig(Config):
    """How copies of training images are looked for, and what the gate allows.

    Everything is compared with held-out images, because real images resemble each other too: a held-out split is the
    right one if its images are as near to the training images as honest generated ones may be.
    """

    reference: list[str] = Field(
        ["near", "validation"],
        min_length=1,
        description="Held-out splits to compare with; the first that exists is used.",
    )
    cells: int = Field(8, ge=1, description="k-means cells of the training features for C_T.")
    cell_images: int = Field(
        10, ge=2, description="Cells with fewer generated, or fewer held-out, images are left out of C_T."
    )
    percentile: float = Field(
        1.0,
        gt=0,
        lt=50,
        description="Share of held-out images, in percent, that distance thresholds take for copies; of their "
        "reconstructions too.",
    )
    phash_bits: int = Field(4, ge=0, le=16, description="Perceptual-hash bits within which an image is a candidate.")
    neighbours: int = Field(
        3, ge=1, description="Nearest training images by features that are compared pixel by pixel."
    )
    shift: int = Field(1, ge=0, le=4, description="Pixels by which that comparison moves images, mirrored ones too.")
    max_exact: float = Field(
        0.001, ge=0, le=1, description="Most images whose pixels equal a training image's, as a share."
    )
    max_copies: float = Field(0.03, ge=0, le=1, description="The share of copies must not surely be above this.")
    least_c_t: float = Field(-3.0, description="Least C_T; 0 is expected, and copies are far below.")
    least_cell: float = Field(
        -6.0, description="Least z-score of a single cell, for generators that copy in one place."
    )
    max_closer: float = Field(
        0.15, ge=0, description="How far the share that is nearer to training images may surely be above one half."
    )
    max_authenticity_loss: float = Field(
        0.15, ge=0, description="How far the authentic share may surely be below that of held-out images."
    )
    panel: int = Field(50, ge=1, description="Closest pairs that are drawn.")
    seed: int = Field(0, description="Seed of the cells.")


class SafetyConfig(Config):
    """Which outputs are withheld, by the filters that real images went through and by a classifier of the user's."""

    unsafe_model: str = Field(
        "", description="Model folder of a safety classifier, relative to the project; empty is none."
    )
    unsafe_classes: list[str] = Field([], description="Its classes that are not to be shown.")
    unsafe_probability: float = Field(
        0.5, gt=0, le=1, description="Images are withheld from this probability of them on."
    )
    batch: int = Field(256, ge=1, description="Images judged together.")


class RepresentationConfig(Config):
    """Whom the generator shows when it is not told."""

    axes: list[str] = Field(
        ["tone", "gender"], description="Factors that neutral prompts leave out: attributes, or `domain`."
    )
    replicates: int = Field(1000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the bootstrap.")


class ResponsibilityConfig(Config):
    """What a generator must answer for."""

    spaces: list[str] = Field(
        ["efficientnet-lite0", "pca"],
        min_length=1,
        description="Feature spaces in which copies are looked for; a source fails the gate if it fails in any.",
    )
    memorisation: MemorisationConfig = MemorisationConfig()
    safety: SafetyConfig = SafetyConfig()
    representation: RepresentationConfig = RepresentationConfig()


class ResponsibilityStageConfig(ResponsibilityConfig):
    """The stage `responsibility`."""

    min_contrast: float = Field(0.02, ge=0, description="The limit of `curated_manifest`, asked of outputs.")
    min_entropy: float = Field(0.3, ge=0, description="The limit of `curated_manifest`, asked of outputs.")


class GeneratorCardConfig(Config):
    """What no measurement can say of the generators."""

    developers: str = Field(description="Who answers for the generators.")
    contact: str = Field(description="Where to ask.")
    licence: str = Field(description="Licence of the weights, as the Hugging Face Hub names it (apache-2.0, other).")
    hardware: str = Field(description="What they were trained on.")
    benefits: str = Field(description="What the images are good for.")
    risks: str = Field(description="What could go wrong, by misuse and by mistake.")
    mitigations: str = Field(description="What was done about it.")
