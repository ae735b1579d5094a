"""Settings of the evaluation of fairness."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ops.config import Config
from ops.evaluate.fairness.names import ACCURACY, AUROC, COMPARABLE, HIGH_RISK, axis_name, gap, worst_group

TESTABLE = [name for metric in COMPARABLE for name in (metric, worst_group(metric), gap(metric))]


class OperatingPoint(Config):
    """Where sensitivity and specificity are read off, instead of at the class that a model finds likeliest."""

    split: str = Field("validation", description="Split whose images set the thresholds; it is not measured.")
    specificity: float = Field(0.95, gt=0, lt=1, description="Least specificity on that split, for each class.")


class FairnessConfig(Config):
    """Who is compared, in what, and how sure it must be."""

    attributes: list[str] = Field(
        ["tone"], min_length=1, description="Attributes whose values are groups; `domain` may be one of them."
    )
    intersections: list[Annotated[list[str], Field(min_length=2)]] = Field(
        [], description="Attributes whose values together are groups, such as [tone, gender]."
    )
    in_distribution: list[str] = Field(
        ["test"], min_length=1, description="Splits that are taken together as images like those of training."
    )
    out_of_distribution: list[str] = Field(
        [], description="Splits that are taken together as images unlike those of training."
    )
    min_count: int = Field(
        10,
        ge=1,
        description="Images that a group needs to be measured (positives for sensitivity, negatives for specificity, both for "
        "AUROC); smaller ones are listed.",
    )
    positive: list[str] | None = Field(
        None,
        min_length=1,
        description="Classes that together count as positive; if not given, measures are means of each class against the rest.",
    )
    high_risk: list[str] = Field([], description="Classes that must not be missed, such as [melanoma].")
    operating_point: OperatingPoint | None = Field(
        None, description="Thresholds of sensitivity and specificity; the likeliest class if not given."
    )
    reference: str | None = Field(
        None, description="The model that all others are compared with (classifier/real); every pair if not given."
    )
    tested: list[str] = Field(
        [worst_group(ACCURACY), gap(ACCURACY), AUROC],
        description="Measures in which models are compared: a measure, worst-group of it, or its gap.",
    )
    replicates: int = Field(2000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the bootstrap.")

    @field_validator("attributes", "in_distribution", "out_of_distribution", "high_risk", "tested")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("something is named twice")
        return names

    @field_validator("intersections")
    @classmethod
    def _different(cls, axes: list[list[str]]) -> list[list[str]]:
        for columns in axes:
            if len(set(columns)) < len(columns):
                raise ValueError(f"{', '.join(columns)} names an attribute twice")
        if len({frozenset(columns) for columns in axes}) < len(axes):
            raise ValueError("an intersection is named twice")
        return axes

    @field_validator("tested")
    @classmethod
    def _measures(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in TESTABLE]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not compared; use some of: {', '.join(TESTABLE)}")
        return names

    @model_validator(mode="after")
    def _apart(self) -> "FairnessConfig":
        both = set(self.in_distribution) & set(self.out_of_distribution)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be both in and out of distribution")
        point = self.operating_point
        if point and point.split in [*self.in_distribution, *self.out_of_distribution]:
            raise ValueError(
                f"thresholds from {point.split}, which is measured, would flatter; set them on other images"
            )
        if not self.high_risk and any(HIGH_RISK in name for name in self.tested):
            raise ValueError(f"tested names {HIGH_RISK}, but high_risk names no class")
        return self

    def axes(self) -> dict[str, list[str]]:
        """Return the columns that make the groups of each axis, by its name; the first is the main one."""
        return {axis_name(columns): columns for columns in [*([a] for a in self.attributes), *self.intersections]}
