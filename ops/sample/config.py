"""Settings of sampling plans, and of what is kept of the images made from them."""

from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr, field_validator, model_validator

from ops.config import Config
from ops.generate.quality.config import BUILT_IN, CLASSIFIER, COLOURS, LITE0

Rest = Literal["class", "cell"]
REST = (
    "Where name and all that is not controlled come from: any training image of the class, which makes them independent of "
    "the attribute, or one of the cell, where names say the attribute (only unseen cells then take any of the class)."
)


class AsData(Config):
    """Cells as in the training split."""

    kind: Literal["as_data"] = "as_data"
    attributes: list[str] = Field([], description="What a cell is made of beside the class: attributes, or `domain`.")


class ClassBalanced(Config):
    """Classes alike; inside a class as in the training split."""

    kind: Literal["class_balanced"] = "class_balanced"
    attributes: list[str] = Field([], description="What a cell is made of beside the class: attributes, or `domain`.")


class AttributeBalanced(Config):
    """Classes as in the training split; inside each, attribute values alike (Ktena et al. 2024)."""

    kind: Literal["attribute_balanced"] = "attribute_balanced"
    attributes: list[str] = Field(
        ["tone"],
        min_length=1,
        description="Attributes whose values are uniform in every class; of several, all combinations are.",
    )
    rest: Rest = Field("class", description=REST)


class DomainBalanced(Config):
    """Classes as in the training split; inside each, domains alike."""

    kind: Literal["domain_balanced"] = "domain_balanced"
    attributes: list[str] = Field(
        [], description="Attributes that are uniform as well: all combinations with the domains are."
    )
    rest: Rest = Field("class", description=REST)


class TargetTable(Config):
    """Shares of cells, or of what some factors of a cell sum up to; one of `rows` and `file`."""

    rows: list[dict[str, StrictInt | StrictFloat | StrictStr]] = Field(
        [], description="Lines such as {tone: 4, share: 0.2}; label, domain and attributes are factors."
    )
    file: str | None = Field(
        None,
        description="A CSV or Parquet file in a folder below data/, with a column `share` and one for each factor.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "TargetTable":
        if bool(self.rows) == (self.file is not None):
            raise ValueError("a table has either rows or a file")
        return self

    @field_validator("file")
    @classmethod
    def _below_data(cls, value: str | None) -> str | None:
        if value is None:
            return value
        parts = value.split("/")
        if parts[0] != "data" or len(parts) < 3 or any(part in ("", ".", "..") for part in parts):
            raise ValueError("a table is a file in a folder below data/, such as data/census/tone.csv")
        if not value.endswith((".csv", ".parquet")):
            raise ValueError("a table is a .csv or a .parquet file")
        return value

    @property
    def folder(self) -> str | None:
        """The folder of the file."""
        return self.file and self.file.rpartition("/")[0]


class Target(Config):
    """Shares that the user gives: of a census, of a clinic. What no table says stays as in the training split."""

    kind: Literal["target"] = "target"
    tables: list[TargetTable] = Field(min_length=1, description="Tables of shares, each of which adds up to 1.")
    prior: float = Field(
        0.0,
        ge=0,
        description="Images that are added to every cell before tables are fitted; above 0, tables can ask for "
        "combinations that no training image shows.",
    )


class ErrorDriven(Config):
    """More of what a classifier gets wrong on held-out images (ours: no paper's)."""

    kind: Literal["error_driven"] = "error_driven"
    attributes: list[str] = Field(
        ["tone"], description="What a cell is made of beside the class: attributes, or `domain`."
    )
    base: Literal["as_data", "attribute_balanced"] = Field(
        "attribute_balanced", description="Shares that are multiplied: as in the data, or uniform inside a class."
    )
    pseudo_count: float = Field(
        10.0, gt=0, description="Images with the mean error of its class that every cell is given beside its own."
    )
    floor: float = Field(0.5, gt=0, le=1, description="Least factor on a cell's share.")
    cap: float = Field(3.0, ge=1, description="Largest factor on a cell's share.")
    scorer: str = Field("scorer", description="The recipe of `classifier` whose errors count; its seeds are averaged.")
    split: str = Field("validation", description="The split that errors are counted on.")
    batch: int = Field(256, ge=1, description="Images classified together.")


class Unconditional(Config):
    """No class, no attribute, no caption: what the generator draws of itself, for f_NR to label (Gowal et al. 2021)."""

    kind: Literal["unconditional"] = "unconditional"


Strategy = Annotated[
    AsData | ClassBalanced | AttributeBalanced | DomainBalanced | Target | ErrorDriven | Unconditional,
    Field(discriminator="kind"),
]


class GateConfig(Config):
    """When a cell is generated, and when training images are repeated instead.

    Both shares are relative to what is possible: to how often judges recover held-out real images, and to the coverage
    that real images would have of each other.
    """

    min_fidelity: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Least share of generated images that show what was asked for, in units of the share of held-out real "
        "images in which the judges see it.",
    )
    min_coverage: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Least coverage of the cell's training images, in units of what as many images of the same "
        "distribution are expected to reach.",
    )
    min_images: int = Field(
        20, ge=5, description="With fewer images a cell is judged with its class, a class with all images."
    )
    neighbours: int = Field(3, ge=1, description="k of coverage.")
    space: str = Field(LITE0, description="Feature space of coverage: efficientnet-lite0, classifier, pca or colours.")
    judges: list[str] = Field(
        [LITE0, COLOURS], min_length=1, description="Feature spaces, side by side, that the judges see."
    )
    judge_strength: float = Field(10.0, gt=0, description="Inverse of the judges' regularisation (scikit-learn's C).")
    lite0_size: int = Field(96, ge=32, description="efficientnet-lite0: side in pixels that images are resized to.")
    scorer: str = Field("scorer", description="The recipe of `classifier` that makes the space `classifier`.")
    images: int = Field(2000, ge=10, description="At most this many images of each set are used.")
    batch: int = Field(32, ge=1, description="Images that are embedded together.")
    seed: int = Field(0, description="Seed of the choice of images, and of the space pca.")

    @model_validator(mode="after")
    def _usable(self) -> "GateConfig":
        if self.min_images <= self.neighbours:
            raise ValueError("min_images must be larger than neighbours: a cell's images are each other's neighbours")
        unknown = sorted({self.space, *self.judges} - set(BUILT_IN))
        if unknown:
            raise ValueError(f"unknown feature space {', '.join(unknown)}; known are {', '.join(BUILT_IN)}")
        return self

    @property
    def needs_scorer(self) -> bool:
        """Whether a trained classifier makes one of the feature spaces."""
        return CLASSIFIER in (self.space, *self.judges)


class SamplingPlanConfig(Config):
    """Which synthetic images to make."""

    multiple: float = Field(1.0, gt=0, description="Number of images as a multiple of the training split.")
    strategy: Strategy = Field(AttributeBalanced(), description="How many images of each cell.")
    gate: GateConfig | None = Field(None, description="Which cells the generator is trusted with; null: all.")
    seed: int = Field(0, description="Seed of names, domains and the order.")

    @model_validator(mode="after")
    def _judged(self) -> "SamplingPlanConfig":
        if self.gate is not None and isinstance(self.strategy, Unconditional):
            raise ValueError("gate is set but has no effect, because strategy is unconditional: it asks for no cell")
        return self

    @property
    def folders(self) -> list[str]:
        """The folders below data/ that target tables are in."""
        tables = self.strategy.tables if isinstance(self.strategy, Target) else []
        return sorted({table.folder for table in tables if table.folder})

    @property
    def scorers(self) -> list[str]:
        """The recipes of `classifier` that the plan needs."""
        of_errors = {self.strategy.scorer} if isinstance(self.strategy, ErrorDriven) else set()
        return sorted(of_errors | ({self.gate.scorer} if self.gate and self.gate.needs_scorer else set()))


class CopiesConfig(Config):
    """How copies of training images are told; as in the stage `responsibility`, in one space of features."""

    space: str = Field(
        "pca", description="Feature space of the search: efficientnet-lite0, classifier, pca or colours."
    )
    reference: list[str] = Field(
        ["near", "validation"],
        min_length=1,
        description="Held-out splits that say how much honest images resemble training images; the first that exists.",
    )
    percentile: float = Field(
        1.0,
        gt=0,
        lt=50,
        description="Share of these held-out images, in percent, that would count as copies; of their reconstructions too.",
    )
    neighbours: int = Field(
        3, ge=1, description="Nearest training images by features that are compared pixel by pixel."
    )
    shift: int = Field(1, ge=0, le=4, description="Pixels by which that comparison moves images, mirrored ones too.")

    @field_validator("space")
    @classmethod
    def _built_in(cls, space: str) -> str:
        if space not in BUILT_IN:
            raise ValueError(f"one of {', '.join(BUILT_IN)}")
        return space


class FilteredSyntheticConfig(Config):
    """Which synthetic images to learn from, and with which labels (Gowal et al. 2021).

    The *condition* is the class that the generator was asked for; the scorer f_NR is a classifier that was trained
    without an attack, on real images only.
    """

    scorer: str = Field("scorer", description="The recipe of `classifier` that is f_NR; its seeds are averaged.")
    labels: Literal["conditional", "pseudo"] = Field(
        "pseudo", description="A row's label: the condition, or what f_NR sees, as in the papers."
    )
    require_agreement: bool = Field(False, description="Drop images in which f_NR does not see the condition.")
    rule: Literal["all", "balance_only", "topk_confidence"] = Field(
        "balance_only",
        description="Keep all; as many of every class, drawn at random; or as many, the most confident by f_NR.",
    )
    keep_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="topk_confidence: share of an even class that is kept (0.2: the best 100,000 of 500,000 in each).",
    )
    within: str = Field(
        "",
        description="Attribute whose values keep their shares in each class. A scorer is least sure of what is rare in "
        "its training: without this, confidence would undo a fair plan. Empty: none.",
    )
    copies: CopiesConfig | None = Field(
        CopiesConfig(), description="How images that repeat a training image are told, and dropped; null keeps them."
    )
    batch: int = Field(256, ge=1, description="Images classified together.")
    seed: int = Field(0, description="balance_only: seed of the draw.")

    @model_validator(mode="after")
    def _used(self) -> "FilteredSyntheticConfig":
        if self.within and self.rule == "all":
            raise ValueError("within is set but has no effect, because rule is all")
        if self.keep_share != 1 and self.rule != "topk_confidence":
            raise ValueError(
                f"keep_share is set but has no effect, because rule is {self.rule}: was `rule: topk_confidence` meant?"
            )
        return self
