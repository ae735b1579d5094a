"""Settings of imports, one class a layout."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ops.config import Config

Share = Annotated[float, Field(gt=0, lt=0.5)]
Role = Literal["image", "diagnosis", "source", "patient", "lesion", "sex", "age", "skin_tone"]
Finding = Literal[
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion", "Pneumonia", "Pneumothorax"
]
"""The findings that CheXpert and ChestX-ray14 both label, by CheXpert's names."""


class ImportConfig(Config):
    """What all layouts have in common."""

    validation_share: Share = Field(0.15, description="Share of the training domains' patients for validation.")
    test_share: Share = Field(0.25, description="Share of them for the test split.")
    seed: int = Field(0, description="Seed of the choice of patients.")
    missing: Literal["stop", "skip"] = Field(
        "stop", description="What to do if the table names files that are not there: stop, or leave them out."
    )


class Camelyon17Config(ImportConfig):
    """CAMELYON17-WILDS: which hospitals are trained on, and which are out of distribution."""

    train: list[int] = Field([0, 3, 4], min_length=1, description="Hospitals (column center) of the training domains.")
    shift: list[int] = Field([1, 2], description="Hospitals that training never sees: WILDS' OOD validation and test.")

    unlabelled: bool = Field(
        True, description="Take the unlabelled patches of the training hospitals, where they are inside the download."
    )

    @model_validator(mode="after")
    def _apart(self) -> "Camelyon17Config":
        both = set(self.train) & set(self.shift)
        if both:
            raise ValueError(f"hospital {min(both)} cannot be trained on and out of distribution")
        return self


class ChestXrayConfig(ImportConfig):
    """CheXpert and ChestX-ray14: which finding is the task, and what an uncertain label means."""

    finding: Finding = Field(
        "Pleural Effusion", description="The finding; its presence is one class, absence the other."
    )
    uncertain: Literal["drop", "positive", "negative"] = Field(
        "drop", description="What CheXpert's -1 becomes; drop leaves the image out."
    )
    demographics: Path | None = Field(
        None, description="CSV with CheXpert's columns PATIENT and PRIMARY_RACE; gives the attribute race."
    )


class DermatologyConfig(ImportConfig):
    """Images of skin with a table: which sources are out of distribution, and which columns say what."""

    metadata: str = Field("metadata.csv", description="The table, in the folder of the download.")
    shift: list[str] = Field([], description="Sources that training never sees.")
    columns: dict[Role, str] = Field({}, description="Columns by what they hold, where their names are not known ones.")
    require: list[Literal["sex", "age", "skin_tone"]] = Field(
        ["sex"], description="Attributes that must be known; images in which one is not are left out."
    )
    min_images: int = Field(20, ge=1, description="Least images of a diagnosis in the training sources.")
