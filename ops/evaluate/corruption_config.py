"""Settings of the evaluation under common corruptions."""

from typing import TypeVar

from pydantic import Field, field_validator, model_validator

from ops.config import Config
from ops.evaluate.corruptions.score import ALEXNET_NAME
from ops.evaluate.corruptions.tables import CORRUPTIONS, EXTRA, SEVERITIES, Table

T = TypeVar("T", str, int)


class CorruptionsConfig(Config):
    """Which images are corrupted, how, and how sure the numbers are; models that draw random numbers are asked once."""

    splits: list[str] = Field(min_length=1, description="Splits to evaluate.")
    corruptions: list[str] = Field(
        list(CORRUPTIONS),
        description="Names of corruptions: the 15 of the benchmark, and the 4 set aside for validation "
        f"({', '.join(EXTRA)}), which no mean counts.",
    )
    severities: list[int] = Field(list(SEVERITIES), min_length=1, description="Severities, from 1 (mild) to 5.")
    table: Table = Field(
        "cifar", description="Parameters: cifar, published for 32 x 32 images, or imagenet, published for 224 x 224."
    )
    images: int = Field(
        1000,
        ge=1,
        description="Images of each split, classes and groups as they come; with the same seed, those that "
        "`robustness` attacks are among them or the other way round.",
    )
    batch: int = Field(
        256, ge=1, description="Images in a batch (does not change results, but for models that draw random numbers)."
    )
    baseline: str | None = Field(
        None,
        description="A measured model, such as classifier/real: mean corruption errors are then also given relative to "
        "its errors (mCE). With the files of ImageNet-C also alexnet: the published errors of AlexNet.",
    )
    published: str | None = Field(
        None,
        description="A folder below data/ with the files of CIFAR-10-C or ImageNet-C; they are read, nothing is corrupted.",
    )
    replicates: int = Field(2000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of the choice of images, of the corruptions and of the bootstrap.")

    @field_validator("splits")
    @classmethod
    def _different(cls, splits: list[str]) -> list[str]:
        return _once(splits)

    @field_validator("corruptions")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        known = CORRUPTIONS + EXTRA
        for name in names:
            if name not in known:
                raise ValueError(f"there is no corruption {name!r}; choose from {', '.join(known)}")
        if not set(names) & set(CORRUPTIONS):
            raise ValueError(f"none is of the benchmark; add at least one of {', '.join(CORRUPTIONS)}")
        return _once(names)

    @field_validator("severities")
    @classmethod
    def _in_range(cls, severities: list[int]) -> list[int]:
        for severity in severities:
            if severity not in SEVERITIES:
                raise ValueError(f"there is no severity {severity}; choose whole numbers from 1 to 5")
        return _once(severities)

    @field_validator("published")
    @classmethod
    def _below_data(cls, folder: str | None) -> str | None:
        top, *below = (folder or "data/none").split("/")
        if top != "data" or not below or any(part in ("", ".", "..") for part in below):
            raise ValueError(f"{folder!r} is no folder below data/; put the files there and write data/cifar-10-c")
        return folder

    @model_validator(mode="after")
    def _comparable(self) -> "CorruptionsConfig":
        if self.baseline == ALEXNET_NAME and (self.published is None or sorted(self.severities) != list(SEVERITIES)):
            raise ValueError(
                "the baseline alexnet is of all five severities of ImageNet-C; name its files in `published` and all "
                "severities, or take a measured model"
            )
        return self

    def pieces(self) -> list[tuple[str, int]]:
        """Return every corruption at every severity, in their order."""
        return [(name, severity) for name in self.corruptions for severity in self.severities]


def _once(values: list[T]) -> list[T]:
    """Return `values`; raises ValueError where one is given twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} is given twice; give it once")
    return values
