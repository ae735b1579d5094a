"""Settings of the comparisons between models."""

from pydantic import Field

from ops.config import Config


class ComparisonsConfig(Config):
    """Which models are compared."""

    reference: str | None = Field(
        None, description="The model that all others are compared with (classifier/real); every pair if not given."
    )
    replicates: int = Field(2000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the bootstrap.")
