"""Settings of claims and report."""

from typing import Literal

from pydantic import Field

from ops.config import Config


class Claim(Config):
    """A paper's claim as a comparison of two models."""

    claim: str = Field(description="The claim, in a sentence.")
    source: str = Field(description="The paper.")
    paper_effect: str = Field(description="The effect the paper reports, in its own setting.")
    better: str = Field(description="The model that is claimed to be better (classifier/mixed).")
    than: str = Field(description="The model it is compared with (classifier/real).")
    measure: Literal["clean", "robust", "gap", "worst_group", "worst_threat"] = Field(
        description="clean or robust accuracy, gap between groups (smaller is better), accuracy of the worst group, or "
        "accuracy under the worst threat."
    )
    splits: list[str] = Field(min_length=1, description="Splits taken together.")


class ClaimsConfig(Config):
    """What is tested."""

    tests: list[Claim] = Field(description="The claims.")
    attribute: str = Field("tone", description="The attribute whose values are the groups.")
    replicates: int = Field(2000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the bootstrap.")


class ModelCardConfig(Config):
    """What no measurement can say of the models."""

    developers: str = Field(description="Who answers for the models.")
    contact: str = Field(description="Where to ask.")
    licence: str = Field(description="Licence of the weights, as the Hugging Face Hub names it (apache-2.0, other).")
    intended_use: str = Field(description="What the models are for.")
    out_of_scope: str = Field(description="What they must not be used for.")
    considerations: str = Field(description="Whom their mistakes may harm, and what was done about it.")


class ReportConfig(Config):
    """The page."""

    title: str = Field("Amalgam", description="Heading of the report.")


class TrainingStudyConfig(Config):
    """Which trainings are compared."""

    recipes: list[str] = Field([], description="Recipes that are shown, such as real; empty is all.")
