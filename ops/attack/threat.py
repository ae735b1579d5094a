"""Threat models: one value that means the same in training, evaluation and reports."""

from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ops.config import Config

Norm = Literal["linf", "l2", "l1"]

LARGEST_L2 = 20.0
"""No published L2 radius comes near it (0.5 for CIFAR-10, 2 to 5 for ImageNet); two random 32x32 images differ by 23."""
L1_RANGE = (0.05, 1000.0)
"""Published L1 radii are 12 (32x32) to 255 (224x224); less than 0.05 is hardly a visible change of a single pixel."""


class Threat(Config):
    """All perturbations d with ||d||_p <= eps and x + d in [0, 1]; eps is in units of pixels in [0, 1]."""

    norm: Norm = Field("linf", description="The norm of the perturbation.")
    eps: float = Field(
        8 / 255, gt=0, description="Its radius, for pixels in [0, 1]: a number or a fraction like 8/255."
    )

    @field_validator("eps", mode="before")
    @classmethod
    def _fraction(cls, value: object) -> object:
        if not isinstance(value, str) or "/" not in value:
            return value
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is no fraction; write it like 8/255") from None

    @model_validator(mode="after")
    def _unit(self) -> "Threat":
        if self.norm == "linf" and self.eps >= 1:
            raise ValueError(f"eps {self.eps:g} is wider than a pixel in [0, 1]; did you mean {self.eps:g}/255?")
        if self.norm == "l2" and self.eps > LARGEST_L2:
            raise ValueError(
                f"an L2 eps of {self.eps:g} turns one image into another, for pixels in [0, 1]; "
                f"did you mean {self.eps:g}/255?"
            )
        if self.norm == "l1" and self.eps < L1_RANGE[0]:
            raise ValueError(
                f"an L1 eps of {self.eps:g}, summed over all pixels, is next to nothing: it looks like an eps for "
                "L-inf; did you mean 12, which is usual for 32x32 images?"
            )
        if self.norm == "l1" and self.eps > L1_RANGE[1]:
            raise ValueError(
                f"an L1 eps of {self.eps:g} turns one image into another, for pixels in [0, 1]; "
                f"did you mean {self.eps:g}/255?"
            )
        return self

    def __str__(self) -> str:
        return f"l1 {self.eps:g}" if self.norm == "l1" else f"{self.norm} {self.eps * 255:g}/255"
