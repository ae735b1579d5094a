"""Threat models: one value that means the same in training, evaluation and reports."""

from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ops.config import Config

Norm = Literal["linf", "l2"]


class Threat(Config):
    """All perturbations d with ||d||_p <= eps and x + d in [0, 1]; eps is in units of pixels in [0, 1]."""

    norm: Norm = Field("linf", description="The norm of the perturbation.")
    eps: float = Field(
        8 / 255, gt=0, description="Its radius, for pixels in [0, 1]: a number or a fraction like 8/255."
    )

    @field_validator("eps", mode="before")
    @classmethod
    def _fraction(cls, value: object) -> object:
        return float(Fraction(value)) if isinstance(value, str) and "/" in value else value

    @model_validator(mode="after")
    def _unit(self) -> "Threat":
        if self.norm == "linf" and self.eps >= 1:
            raise ValueError(f"eps {self.eps:g} is wider than a pixel in [0, 1]; did you mean {self.eps:g}/255?")
        return self

    def __str__(self) -> str:
        return f"{self.norm} {self.eps * 255:g}/255"
