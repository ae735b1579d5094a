"""Settings of sampling plans."""

from typing import Literal

from pydantic import Field

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
