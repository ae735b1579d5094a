"""What is known of a trained classifier, kept beside its weights."""

from typing import Annotated, Any

from pydantic import Field

from ops.config import Config
from ops.models.config import Architecture
from ops.models.external.config import ExternalArchitecture


class ModelCard(Config):
    """The record `model.json` of a model folder."""

    name: str = Field(description="Name of the model, such as real.")
    architecture: Annotated[Architecture | ExternalArchitecture, Field(discriminator="family")]
    classes: list[str]
    image_size: int
    mean: list[float] = Field(description="Mean of each channel, for pixels in [0, 1].")
    std: list[float] = Field(description="Standard deviation of each channel.")
    seed: int = Field(description="Of its training; -1 for a model that was trained elsewhere.")
    ancestor: str = Field(description="Hash of the weights that training started from; soups need a common one.")
    recipe: dict[str, Any] = Field(default={}, description="The recipe that trained it.")
    metrics: dict[str, float] = Field(default={}, description="Final figures on the validation split.")
