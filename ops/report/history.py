"""What a training left behind: `history.json` and the recipe in `model.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.errors import AmalgamError
from ops.evaluate.measurements import split_name
from ops.files import read_json
from ops.train.recipe import Recipe

REMEDY = "train it again: python -m pipelines run"


class Logged(BaseModel):
    """One logged training step; further keys are ignored."""

    model_config = ConfigDict(frozen=True)

    epoch: float
    loss: float
    lr: float


class Evaluation(BaseModel):
    """One evaluation during training; further keys are ignored."""

    model_config = ConfigDict(frozen=True)

    step: int
    epoch: float
    weights: Literal["averaged", "live"]
    split: Literal["validation", "train", "test"]
    clean: float = Field(alias="clean accuracy", ge=0, le=1)
    robust: float = Field(alias="robust accuracy", ge=0, le=1)
    n: int = Field(ge=1)


class History(BaseModel):
    """The file `history.json` of a model folder."""

    steps: list[Logged]
    evaluations: list[Evaluation]


@dataclass(frozen=True)
class Run:
    """One training: a recipe and a seed."""

    model: str
    seed: int
    recipe: Recipe
    history: History

    def points(self, weights: str, split: str) -> list[Evaluation]:
        """Return the evaluations of `weights` on `split`, in the order of training."""
        chosen = [e for e in self.history.evaluations if (e.weights, e.split) == (weights, split)]
        return sorted(chosen, key=lambda e: e.step)


def read_run(name: str, folder: Path) -> Run:
    """Return the training of a model folder; raises AmalgamError that names the file and key that are wrong."""
    model, seed = split_name(name)
    for file in ("history.json", "model.json"):
        if not (folder / file).exists():
            raise AmalgamError(f"the model {name} has no {file}", REMEDY)
    file = "history.json"
    try:
        history = History.model_validate(read_json(folder / file))
        file = "model.json"
        recipe = Recipe.model_validate(read_json(folder / file)["recipe"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise AmalgamError(f"{file} of {name} is of another form: {where}: {first['msg']}", REMEDY) from None
    except (ValueError, KeyError, TypeError) as error:
        raise AmalgamError(f"{file} of {name} is of another form: {error!r}", REMEDY) from None
    run = Run(model, seed, recipe, history)
    if not run.points("averaged", "validation"):
        raise AmalgamError(f"history.json of {name} has no evaluation of averaged weights on validation", REMEDY)
    return run


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return the recipe name of each model (`classifier/real` is `real`); the whole name where two would be alike."""
    unique = list(dict.fromkeys(models))
    last = {model: model.rpartition("/")[2] for model in unique}
    return {model: name if list(last.values()).count(name) == 1 else model for model, name in last.items()}


def augmentation_of(recipe: Recipe) -> str:
    """Return the augmentation in words, such as `crop 4, flip, cutmix window 20`."""
    a = recipe.augmentation
    mixing: str = a.mixing.method if a.mixing.method != "none" else ""
    if mixing == "cutmix" and a.mixing.size == "window":
        mixing += f" window {a.mixing.window}"
    parts = [
        f"crop {a.crop}" if a.crop else "",
        "flip" if a.flip else "",
        a.policy.name if a.policy.name != "none" else "",
        f"cutout {a.cutout}" if a.cutout else "",
        mixing,
    ]
    return ", ".join(filter(None, parts)) or "no augmentation"
