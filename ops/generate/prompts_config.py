"""Settings of the prompts that generators are judged on."""

from pydantic import Field

from ops.config import Config


class EvaluationPromptsConfig(Config):
    """What every generator is asked for, so that they can be compared."""

    images: int = Field(1000, ge=1, description="Prompts as training images have them, one image each.")
    neutral_prompts: int = Field(40, ge=1, description="Neutral prompts, which name neither style nor attributes.")
    neutral_images: int = Field(10, ge=2, description="Images of each neutral prompt.")
    seed: int = Field(0, description="Seed of the choice.")
