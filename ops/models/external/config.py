"""Settings of a model from elsewhere, and what a model folder keeps of them."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator

from ops.config import Config
from ops.errors import AmalgamError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
IMPORT_STRING = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


class ExternalModel(Config):
    """A classifier that was trained elsewhere, in the way of RobustBench.

    Its module takes images (N, 3, H, W), float32 in [0, 1], returns logits (N, K), and normalises inside. Its Python code
    is run.
    """

    folder: str = Field(description="The folder below data/ with its code and weights.")
    object: str = Field(
        pattern=IMPORT_STRING,
        description="module:attribute in that folder, a class or a function that returns the module.",
    )
    arguments: dict[str, JsonValue] = Field({}, description="What it is called with, by name.")
    weights: str = Field(description="The safetensors file with its state, in that folder.")
    info: str | None = Field(None, description="RobustBench's model-info (JSON) in that folder, to be shown beside.")
    classes: list[str] | None = Field(
        None, min_length=2, description="The classes in the order of its logits; null is the dataset's order."
    )
    image_size: int | None = Field(
        None,
        ge=1,
        description="Side of the images it was made for, if not the dataset's: images are resized inside the model, so "
        "that attacks change the dataset's pixels.",
    )
    split: str = Field("test", description="Split on which it is tried when it comes in.")
    images: int = Field(1000, ge=1, description="Images of that split.")
    batch: int = Field(256, ge=1, description="Images in a batch (does not change results).")

    @field_validator("folder")
    @classmethod
    def _below_data(cls, folder: str) -> str:
        top, *below = folder.split("/")
        if top != "data" or not below or any(part in ("", ".", "..") for part in below):
            raise ValueError(f"{folder!r} is no folder below data/; put the files there and write data/my-model")
        return folder

    @field_validator("weights", "info")
    @classmethod
    def _inside(cls, file: str | None) -> str | None:
        if file is not None and (PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts):
            raise ValueError(f"{file!r} is no file inside the folder")
        return file

    @field_validator("classes")
    @classmethod
    def _different(cls, classes: list[str] | None) -> list[str] | None:
        for name in classes or []:
            if (classes or []).count(name) > 1:
                raise ValueError(f"the class {name} is given twice")
        return classes


class ExternalModels(Config):
    """The models from elsewhere."""

    models: dict[Name, ExternalModel] = Field(
        {}, description="Model by name (letters, digits, underscores); each becomes an asset `external/<name>`."
    )


class ExternalArchitecture(Config):
    """What `model.json` says of the network of such a model; its code is in the folder `code` beside."""

    family: Literal["external"] = "external"
    object: str = Field(pattern=IMPORT_STRING, description="module:attribute in `code`.")
    arguments: dict[str, JsonValue] = Field({}, description="What it is called with.")
    order: list[int] = Field(description="For each class, which of the network's outputs it is.")
    image_size: int | None = Field(None, description="Side that images are resized to, inside the model; null: none.")


def check_format(weights: str, where: str) -> None:
    """Raise AmalgamError for a file of weights that is not safetensors, such as a pickle, with the way to convert it."""
    if PurePosixPath(weights).suffix == ".safetensors":
        return
    raise AmalgamError(
        f"{where} is {weights!r}: weights are read from safetensors only, never unpickled", conversion(weights)
    )


def conversion(weights: str) -> str:
    """Return the lines of Python that make a safetensors file of the checkpoint `weights`."""
    file = PurePosixPath(weights)
    return (
        "convert the file once, in Python:\n"
        "    from torch import load; from safetensors.torch import save_file\n"
        f'    state = load("{file.name}", map_location="cpu", weights_only=True)\n'
        f'    save_file({{k: v.clone().contiguous() for k, v in state.items()}}, "{file.stem}.safetensors")\n'
        '    (where the file holds more than the state, take its part: state = load(...)["state_dict"])'
    )
