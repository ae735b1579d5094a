"""RobustBench's model-info: the JSON file that stands for a model on its leaderboards.

Fields, their order and their text (percentages such as "59.53", eps such as "8/255") are those of the files published in
the folder `model_info` of github.com/RobustBench/robustbench. Fields that are not named here are kept as they are.
"""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ops.attack.threat import Threat
from ops.errors import AmalgamError
from ops.evaluate.attack_budgets import budget_text, is_standard
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import split_name
from ops.files import replacing
from ops.models.card import ModelCard
from ops.models.external.config import ExternalArchitecture

NOTHING = ("", "-", "null", "none", "n/a", "nan")
"""How files say that there is no figure."""


def _as_text(value: Any) -> Any:
    """Return a number as the text it is published as."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def number(text: str | None) -> float | None:
    """Return the number in a field, which may be a fraction; None where there is none. Raises ValueError for other text."""
    if text is None or text.strip().lower() in NOTHING:
        return None
    try:
        return float(Fraction(text.strip().removesuffix("%").replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is no number") from None


def _is_number(text: str | None) -> str | None:
    number(text)
    return text


def _is_percentage(text: str | None) -> str | None:
    value = number(text)
    if value is not None and not 0 <= value <= 100:
        raise ValueError(f"{text!r} is no percentage")
    return text


Numeral = Annotated[str | None, BeforeValidator(_as_text), AfterValidator(_is_number)]
Percentage = Annotated[str | None, BeforeValidator(_as_text), AfterValidator(_is_percentage)]


class ModelInfo(BaseModel):
    """One model as RobustBench describes it; a field may be absent or null."""

    model_config = ConfigDict(extra="allow", frozen=True)

    link: str | None = Field(None, description="Of the paper.")
    name: str | None = Field(None, description="Title of the paper.")
    authors: str | None = None
    additional_data: bool | None = Field(
        None, description="Trained on data beyond the dataset; generated from it is not."
    )
    number_forward_passes: int | None = Field(None, description="Of the network for one prediction.")
    dataset: str = Field(description="cifar10, cifar100, imagenet, or a name of one's own.")
    venue: str | None = None
    architecture: str | None = None
    eps: Numeral = Field(None, description="Radius of the threat, pixels in [0, 1]; null for corruptions.")
    clean_acc: Percentage = Field(description="Clean accuracy.")
    reported: Percentage = Field(None, description="Robust accuracy that the authors report.")
    corruptions_acc: Percentage = Field(None, description="Mean accuracy on CIFAR-10-C and the like.")
    corruptions_acc_3d: Percentage = None
    corruptions_mce: Numeral = Field(None, description="Relative to AlexNet, so it may be above 100.")
    corruptions_mce_3d: Numeral = None
    autoattack_acc: Percentage = Field(None, description="Robust accuracy under AutoAttack, version standard.")
    external: Percentage = Field(None, description="The best known attack of others, where it is stronger.")
    unreliable: bool | None = Field(None, description="AutoAttack saw signs that its figure cannot be trusted.")
    footnote: str | None = None

    def percentage(self, field: str) -> float | None:
        """Return the figure in a field (of 100), or None where there is none."""
        return number(getattr(self, field))


def read_model_info(path: Path) -> ModelInfo:
    """Return the model-info in a file; raises AmalgamError for what is missing or is none, with the field that is wrong."""
    remedy = "take the file of the model from RobustBench's folder model_info, or set info to null"
    try:
        return ModelInfo.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise AmalgamError(f"the model-info {path.name} is not in {path.parent.name}", remedy) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise AmalgamError(f"{path.name} is no model-info: {where}: {first['msg']}", remedy) from None
    except ValueError as error:
        raise AmalgamError(f"{path.name} is no JSON: {str(error)[:200]}", remedy) from None


def write_model_info(path: Path, info: ModelInfo) -> None:
    """Write the fields that `info` was given, in the published order; what was read comes back."""
    text = json.dumps(info.model_dump(exclude_unset=True), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def model_info_of(
    card: ModelCard,
    model: str,
    rows: pd.DataFrame,
    config: RobustnessConfig,
    split: str = "test",
    threat: Threat | None = None,
    about: ModelInfo | None = None,
    doubts: Sequence[str] | None = None,
) -> ModelInfo:
    """Return the model-info of a model that was measured here.

    `autoattack_acc` is given only if the attacks were AutoAttack's, version standard, with its budgets. Otherwise the
    robust accuracy is `reported`, and the footnote says which attacks ran; it says how many images met them in any case.
    Nothing measured is taken from `about`.

    Args:
        card: the model's.
        model: its name among the measurements (`classifier/real/seed-0`).
        rows: the measurements of `robustness`.
        config: what they were made with.
        split: which of its splits.
        threat: which of its threats; the first if not given.
        about: who made the model and from what, where that is published.
        doubts: the warnings in `honesty.json`; one of this model makes its figure `unreliable`.

    Raises AmalgamError for a model, split or threat that was not measured.
    """
    threat = threat or config.threats[0]
    clean = _measured(rows, model, split, "clean accuracy")
    robust = _measured(rows, model, split, f"robust accuracy ({threat})")
    attacks = config.attacks_in(threat.norm)
    accuracy = f"{100 * robust['value']:.2f}"
    known = {"reported": accuracy, "additional_data": _additional_data(card)}
    notes = [f"Robust accuracy of {robust['n']} images, after {', '.join(map(budget_text, attacks))}; not AutoAttack."]
    if is_standard(attacks, threat.norm):
        known["autoattack_acc"] = accuracy
        notes = [f"AutoAttack, version standard, of {robust['n']} images."]
    if card.recipe.get("mix", {}).get("real_fraction", 1) < 1:
        notes.append("It uses additional synthetic images in training.")
    fields = {
        "link": "",
        "name": card.name,
        "authors": "",
        "number_forward_passes": 1,
        "venue": "",
        "architecture": architecture_name(card),
        **known,
        **(about.model_dump(include=ABOUT, exclude_none=True) if about else {}),
        "dataset": str(clean["dataset"]),
        "eps": eps_text(threat),
        "clean_acc": f"{100 * clean['value']:.2f}",
        "unreliable": None if doubts is None else any(doubt.startswith(f"{model}: ") for doubt in doubts),
        "footnote": " ".join(notes),
    }
    return ModelInfo.model_validate({key: value for key, value in fields.items() if value is not None})


ABOUT = {"link", "name", "authors", "venue", "architecture", "additional_data", "number_forward_passes"}
"""What a published file says of a model, apart from its figures."""


def _measured(rows: pd.DataFrame, model: str, split: str, metric: str) -> pd.Series:
    name, seed = split_name(model)
    mine = rows[(rows["model"] == name) & (rows["seed"] == seed) & (rows["group"] == "all")]
    found = mine[(mine["split"] == split) & (mine["metric"] == metric)]
    if len(found) == 1:
        return found.iloc[0]
    known = "; ".join(sorted({f"{m} on {s}" for m, s in zip(mine["metric"], mine["split"], strict=True)}))
    raise AmalgamError(f"{metric} of {model} on {split} was not measured", f"measured are: {known or 'none of it'}")


def _additional_data(card: ModelCard) -> bool | None:
    """Return whether the recipe mixes in a folder of data; images generated from the training split do not count."""
    mix = card.recipe.get("mix")
    return None if mix is None else mix.get("real_fraction", 1) < 1 and "/" in mix.get("source", "")


def eps_text(threat: Threat) -> str:
    """Return the radius as it is published: `8/255` in L-inf, where it is a whole number of that, else a decimal."""
    levels = threat.eps * 255
    return f"{levels:.0f}/255" if threat.norm == "linf" and abs(levels - round(levels)) < 1e-6 else f"{threat.eps:g}"


def architecture_name(card: ModelCard) -> str:
    """Return the network's name in the way of the published files, such as `WideResNet-28-10`."""
    a = card.architecture
    if isinstance(a, ExternalArchitecture):
        return a.object.rpartition(":")[2]
    return {
        "preact_resnet": f"PreActResNet-{2 * sum(a.blocks) + 2}, widths {', '.join(map(str, a.widths))}",
        "wide_resnet": f"WideResNet-{a.depth}-{a.width}",
        "resnet9": f"ResNet-9, widths {', '.join(map(str, a.widths))}",
        "vit": f"ViT, {a.layers} layers, {a.dim} channels, patches of {a.patch}",
    }[a.family]
