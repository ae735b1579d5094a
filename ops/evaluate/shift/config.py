"""Settings of the evaluation under distribution shift."""

import re
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ops.config import Config
from ops.data.config import Split

Share = Annotated[float, Field(gt=0, lt=1)]
BALANCED, UNSHIFTED = "balanced", "unshifted"
TAKEN = (BALANCED, UNSHIFTED, "tweak-one", "dirichlet")
"""How the names of class priors begin that are made here."""


class TweakOne(Config):
    """One class has a fixed probability, the others share the rest evenly (Lipton et al. 2018)."""

    probabilities: list[Share] = Field([0.7], min_length=1, description="Probabilities that the one class has.")
    classes: list[str] | None = Field(
        None, min_length=1, description="Classes that take their turn; all that the split has if not given."
    )


class Dirichlet(Config):
    """Class priors drawn from a symmetric Dirichlet distribution (Lipton et al. 2018)."""

    alphas: list[PositiveFloat] = Field([1.0], min_length=1, description="Concentrations; smaller is further off.")
    draws: int = Field(5, ge=1, description="Priors drawn for each concentration.")


class LabelShiftConfig(Config):
    """Which class priors are tried, and how classifiers learn of them."""

    tables: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        {}, description="Your own class priors by name: the probability of each class; classes left out have none."
    )
    tweak_one: TweakOne | None = Field(None, description="The family of priors in which one class is frequent.")
    dirichlet: Dirichlet | None = Field(None, description="The family of priors drawn at random.")
    calibration_split: str | None = Field(
        "validation",
        description="Split on whose images the probabilities of each model are calibrated before it adapts; null: not at all.",
    )
    unlabelled: int = Field(500, ge=1, description="Unlabelled images from which a classifier estimates the priors.")
    samples: int = Field(20, ge=2, description="Times that such images are drawn.")

    @field_validator("tables")
    @classmethod
    def _probabilities(cls, tables: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, table in tables.items():
            if name.startswith(TAKEN):
                raise ValueError(f"{name!r} begins like a prior that is made here; choose another name")
            if abs(sum(table.values()) - 1) > 1e-3:
                raise ValueError(f"the probabilities of {name!r} sum to {sum(table.values()):g}; they must sum to 1")
        return tables


class FewShotConfig(Config):
    """How images of a shifted domain are set apart for adapting to it."""

    shots: list[PositiveInt] = Field([1, 5, 10], min_length=1, description="Images of each class for adaptation.")
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="Seeds; each is a choice of its own.")
    support_share: float = Field(
        0.5, gt=0, lt=1, description="Largest share of a class's concepts that adaptation may take from the test."
    )


class ShiftConfig(Config):
    """Which images from elsewhere are shown, and what they are compared with.

    Models that draw random numbers are asked once.
    """

    in_distribution: str = Field("test", description="The split that others are compared with.")
    shifted: list[str] = Field(description="Splits of images from elsewhere; may be empty.")
    sets: dict[str, str] = Field(
        {}, description="Your own images from elsewhere: for each name a folder below data/, such as data/sketches."
    )
    candidates: Literal["all", "present"] = Field(
        "all",
        description="Classes that a prediction on `sets` may be: all, or only those that the set has (others are masked).",
    )
    label_shift: LabelShiftConfig = LabelShiftConfig()
    few_shot: FewShotConfig = FewShotConfig()
    images: int = Field(1000, ge=1, description="Images of each split and set that are shown.")
    batch: int = Field(
        256, ge=1, description="Images in a batch (does not change results, but for models that draw random numbers)."
    )
    replicates: int = Field(2000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the choice of images, of the drawn priors and of the bootstrap.")

    @field_validator("sets")
    @classmethod
    def _folders(cls, sets: dict[str, str]) -> dict[str, str]:
        for name, folder in sets.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise ValueError(f"{name!r} is no name for a set; use letters, digits, - and _")
            if name in get_args(Split):
                raise ValueError(f"{name!r} is what a split is called; choose another name for the set")
            top, *below = folder.split("/")
            if top != "data" or not below or any(part in ("", ".", "..") for part in below):
                raise ValueError(f"{folder!r} is no folder below data/; put the images there and write data/{name}")
        return sets

    @model_validator(mode="after")
    def _different(self) -> "ShiftConfig":
        calibration = self.label_shift.calibration_split
        if calibration in (self.in_distribution, *self.shifted):
            raise ValueError(f"calibration_split is {calibration}, on whose images models are measured; take another")
        for split in self.shifted:
            if split == self.in_distribution:
                raise ValueError(f"shifted names {split}, which is in_distribution; leave it out")
            if self.shifted.count(split) > 1:
                raise ValueError(f"shifted names {split} twice; name it once")
        return self
