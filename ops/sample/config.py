"""Settings of sampling plans, and of what is kept of the images made from them."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ops.config import Config


class SamplingPlanConfig(Config):
    """Which synthetic images to make."""

    multiple: float = Field(1.0, gt=0, description="Number of images as a multiple of the training split.")
    label: Literal["empirical", "uniform"] = Field("empirical", description="Distribution of the classes.")
    attribute: str = Field("tone", description="The attribute whose distribution is set.")
    values: Literal["uniform", "empirical"] = Field(
        "uniform", description="Its distribution; uniform is Ktena's choice."
    )
    seed: int = Field(0, description="Seed of names, domains and the order.")


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
        1.0, gt=0, lt=50, description="Share of these held-out images, in percent, that would count as copies."
    )
    neighbours: int = Field(
        3, ge=1, description="Nearest training images by features that are compared pixel by pixel."
    )
    shift: int = Field(1, ge=0, le=4, description="Pixels by which that comparison moves images, mirrored ones too.")

    @field_validator("space")
    @classmethod
    def _built_in(cls, space: str) -> str:
        if space not in ("efficientnet-lite0", "classifier", "pca", "colours"):
            raise ValueError("one of efficientnet-lite0, classifier, pca, colours")
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
