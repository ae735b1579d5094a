"""How real images are drawn, and what makes groups of images."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ops.config import Config
from ops.train.augmentation.config import refuse_unused


def _distinct(keys: list[str]) -> list[str]:
    if len(set(keys)) < len(keys):
        raise ValueError("name each key once")
    return keys


GroupKeys = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^(label|domain|attribute:.+)$")]], AfterValidator(_distinct)
]
"""Columns of the manifest: `label`, `domain`, `attribute:<name>`. Images that agree in all of them are a group."""


class Sampling(Config):
    """How the real images of a batch are drawn.

    `balanced` is oversampling: groups take turns, so that all are seen equally often whatever their size, and each goes
    through its own images in shuffled epochs. `errors` is JTT (Liu et al. 2021): what an identification model gets wrong
    is `upweight` times in an epoch, everything else once.
    """

    method: Literal["uniform", "balanced", "errors"] = Field(
        "uniform", description="Shuffled epochs of all images, groups in turns, or errors more often (JTT)."
    )
    by: GroupKeys = Field([], description="balanced: what makes a group, some of label, domain and attribute:<name>.")
    identifier: str = Field("", description="errors: the recipe in `classifier` whose mistakes are repeated.")
    upweight: int = Field(5, ge=1, description="errors: times that a mistake is in an epoch (lambda_up of JTT).")

    @model_validator(mode="after")
    def _used(self) -> "Sampling":
        reason = f"sampling.method is {self.method}"
        if self.method != "balanced":
            refuse_unused(self, ("by",), reason, "method: balanced")
        if self.method != "errors":
            refuse_unused(self, ("identifier", "upweight"), reason, "method: errors")
        if self.method == "balanced" and not self.by:
            raise ValueError("balanced needs groups: set sampling.by, such as [label, attribute:tone]")
        if self.method == "errors" and not self.identifier:
            raise ValueError(
                "errors needs a model that makes them: set sampling.identifier to a recipe of `classifier`"
            )
        return self
