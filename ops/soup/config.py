"""Settings of soups."""

from typing import Literal

from pydantic import Field

from ops.attack.threat import Threat
from ops.config import Config


class SoupConfig(Config):
    """Which weights are mixed, and how the mix is chosen."""

    ingredients: list[str] = Field(min_length=2, max_length=4, description="Asset names of the classifiers to mix.")
    step: float = Field(0.25, gt=0, le=1, description="Spacing of the grid of weights.")
    extrapolate: int = Field(0, ge=0, le=4, description="Grid steps below 0 and above 1 (affine soups).")
    threats: list[Threat] = Field(min_length=1, description="Threats that the choice considers.")
    attack_steps: int = Field(10, ge=1, description="PGD steps of the choice.")
    images: int = Field(
        256, ge=1, description="Validation images of the choice (few-shot: a small number is the point)."
    )
    criterion: Literal["worst", "mean"] = Field("worst", description="Best worst, or best mean, over the threats.")
