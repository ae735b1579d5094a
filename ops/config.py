"""The base of every configuration model.

Configurations live beside the code they configure; `pipelines/params.py` composes them into one tree, so that a
typing error in `params.yaml` is reported with the key that carries it.
"""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """An immutable section of `params.yaml`; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
