"""Settings of the evaluation."""

from typing import Literal

from pydantic import Field

from ops.attack.threat import Threat
from ops.config import Config


class Attack(Config):
    """One attack of the evaluation."""

    name: Literal["pgd", "apgd-ce"] = Field(description="pgd (margin objective) or apgd-ce (Croce and Hein 2020).")
    steps: int = Field(40, ge=1, description="Steps.")


class RobustnessConfig(Config):
    """What is attacked, and how."""

    splits: list[str] = Field(min_length=1, description="Splits to evaluate.")
    threats: list[Threat] = Field(min_length=1, description="Threat models; every model meets all of them.")
    attacks: list[Attack] = Field(min_length=1, description="Attacks; an example is robust if it survives all of them.")
    images: int = Field(
        256,
        ge=1,
        description="Images of each split that are attacked, classes and groups as they come; clean accuracy is of all.",
    )
    batch: int = Field(256, ge=1, description="Images in a batch (does not change results).")
    seed: int = Field(0, description="Seed of the choice of images and of the attacks.")


class FairnessConfig(Config):
    """How groups are compared."""

    attribute: str = Field("tone", description="The attribute whose values are the groups.")
    replicates: int = Field(2000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the bootstrap.")
