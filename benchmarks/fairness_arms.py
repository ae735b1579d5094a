"""The arms of the fairness study: what everybody would try first, stronger references, and synthesis.

All start from one plain recipe, the scorer of the default profile, and take as many optimizer steps as it does, whatever
they need: the training of JTT's identification model and the pre-training on synthetic images count too.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.embedded import profile
from ops.errors import AmalgamError
from ops.train.arms import epochs_for, require_equal_steps
from ops.train.recipe import Recipe, step_count

LABEL, LABEL_ATTRIBUTE = "label_shards", "label_attribute_shards"
"""What arms name in `mix.source`: shards of a generator that knows the label only, and of one that knows both."""

UNFILTERED, STYLES, UNGUIDED, GATED = "unfiltered", "styles_balanced", "unguided", "gated"
"""Shards of the remedies: nothing is filtered; styles are balanced as well; drawn without guidance, which costs variety;
training images are repeated where the generator fails."""

Tree = dict[str, Any]

COLOUR: Tree = {"brightness": 0.25, "contrast": 0.5, "saturation": 0.25, "hue": 0.04}
GEOMETRY: Tree = {"rotation": 15, "scale": 0.1, "shear": 10}
IDENTIFYING = 0.25
"""Share of JTT's steps that train the identification model: an early one, whose mistakes are not yet learnt by heart."""
PRETRAINING = 0.5
"""Share of the steps on synthetic images before those on real ones."""
FINETUNING_RATE = 0.3
"""Rate of the steps on real images after pre-training, of the plain recipe's."""


def plain_recipe() -> Recipe:
    """Return the recipe that all arms change: clean training of the default profile's scorer."""
    return profile().classifier.recipes["scorer"]


def fairness_arms(plain: Recipe, images: int, alpha: float, attribute: str = "tone") -> dict[str, Recipe]:
    """Return the recipes of the study by name: arms, and what they need (`identifier`, `pretrain`).

    `images` is the number of real training images, `alpha` the share of real images in a batch of the arms that mix, and
    `attribute` the one whose groups are to be treated alike. Synthesis comes with and without colour jitter, as does the
    plain recipe: what each of the two does can be told apart.

    Raises AmalgamError if `alpha` is not between 0 and 1, or if the plain recipe takes too few steps to be shared.
    """
    if not 0 < alpha < 1:
        raise AmalgamError(f"alpha is {alpha:g}, which mixes nothing", "choose a share of real images between 0 and 1")
    steps, batch = step_count(plain, images), plain.schedule.batch
    first = {name: round(share * steps) for name, share in (("identifier", IDENTIFYING), ("pretrain", PRETRAINING))}
    if min(first.values()) < 1:
        raise AmalgamError(f"the plain recipe takes {steps} step(s), too few to share", "train for more epochs")

    def lasting(count: int, **others: Any) -> Tree:
        return {"epochs": epochs_for(count, images, batch), **others}

    key = f"attribute:{attribute}"
    joint = {"method": "balanced", "by": ["label", key]}
    mixed = {name: {"mix": {"real_fraction": alpha, "source": name}} for name in (LABEL, LABEL_ATTRIBUTE)}
    colour = {"augmentation": {"colour": COLOUR}}
    rate = FINETUNING_RATE * plain.schedule.lr
    changes: dict[str, Tree] = {
        "erm": {},
        "colour": colour,
        "heuristic": {"augmentation": {"colour": COLOUR, "geometry": GEOMETRY}},
        "randaugment": {"augmentation": {"policy": {"name": "randaugment"}}},
        "oversampling": {"sampling": joint},
        "focal": {"loss": "focal", "gamma": 2.0},
        "group_balanced": {"sampling": {"method": "balanced", "by": [key, "domain", "label"]}},
        "group_dro": {"loss": "group_dro", "group_by": joint["by"], "sampling": joint},  # as its authors draw
        "identifier": {"schedule": lasting(first["identifier"])},
        "jtt": {
            "sampling": {"method": "errors", "identifier": "identifier"},
            "schedule": lasting(steps - first["identifier"]),
        },
        "label_synthesis": mixed[LABEL],
        "label_synthesis_colour": mixed[LABEL] | colour,
        "label_attribute_synthesis": mixed[LABEL_ATTRIBUTE],
        "label_attribute_synthesis_colour": mixed[LABEL_ATTRIBUTE] | colour,
        "pretrain": {
            "mix": {"real_fraction": 0.0, "source": LABEL_ATTRIBUTE},
            "schedule": lasting(first["pretrain"]),
        },
        "pretrain_finetune": {
            "initialisation": "pretrain",
            "schedule": lasting(steps - first["pretrain"], lr=rate),
        },
    }
    recipes = {name: _changed(plain, name, change) for name, change in changes.items()}
    require_equal_steps(recipes, images)
    return recipes


REMEDIES = {
    "balanced_synthesis": "real images are balanced over class and tone as in oversampling, beside the synthetic ones",
    "augmented_synthesis": "real and synthetic images get the heuristic augmentation, too: styles are what differs there",
    "unfiltered_synthesis": "no synthetic image is dropped: a filter can drop what is hard along with what is wrong",
    "style_balanced_synthesis": "synthetic images are balanced over training styles as well as over tones",
    "unguided_synthesis": "sampled without guidance: truer to the variety of a class, and less typical",
    "gated_synthesis": "cells in which the generator fails the gate repeat training images",
}
"""What was tried to help label + attribute synthesis, and why."""
CONTROL = "augmented_oversampling"
"""Oversampling with the same augmentation as `augmented_synthesis`, without which that would be compared with less."""


def remedy_arms(plain: Recipe, images: int, alpha: float) -> dict[str, Recipe]:
    """Return the recipes of REMEDIES and CONTROL, which take the steps of the plain one; see `fairness_arms`."""
    ours = fairness_arms(plain, images, alpha)
    base, oversampling = ours["label_attribute_synthesis"], ours["oversampling"]
    augmented: Tree = {"augmentation": ours["heuristic"].augmentation.model_dump()}

    def learning_from(source: str) -> Tree:
        return {"mix": {"source": source}}

    changes: dict[str, Tree] = {
        "balanced_synthesis": {"sampling": oversampling.sampling.model_dump()},
        "augmented_synthesis": augmented,
        "unfiltered_synthesis": learning_from(UNFILTERED),
        "style_balanced_synthesis": learning_from(STYLES),
        "unguided_synthesis": learning_from(UNGUIDED),
        "gated_synthesis": learning_from(GATED),
    }
    remedies = {name: _changed(base, name, change) for name, change in changes.items()}
    return remedies | {CONTROL: _changed(oversampling, CONTROL, augmented)}


def _changed(plain: Recipe, name: str, changes: Mapping[str, Any]) -> Recipe:
    tree = plain.model_dump() | {"description": name.replace("_", " ")}
    for key, value in changes.items():
        tree[key] = tree[key] | value if isinstance(value, Mapping) else value
    return Recipe.model_validate(tree)
