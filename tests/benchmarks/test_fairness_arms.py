"""Arms of the fairness study: one budget for all, whatever the data; each differs from the plain recipe as it says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fairness_arms import CONTROL, REMEDIES, fairness_arms, plain_recipe, remedy_arms
from benchmarks.fairness_data import KINDS
from ops.errors import AmalgamError
from ops.train.arms import arms_of, total_steps
from ops.train.recipe import Recipe, step_count

PLAIN = plain_recipe()
TONE = "attribute:tone"


def changed(recipe: Recipe) -> set[str]:
    """Return the fields in which a recipe differs from the plain one, `schedule` only if more than its length does."""
    ours, theirs = recipe.model_dump(), PLAIN.model_dump()
    for tree in (ours, theirs):
        del tree["description"], tree["schedule"]["epochs"]
    return {key for key in ours if ours[key] != theirs[key]}


@settings(max_examples=40, deadline=None)
@given(images=st.integers(60, 10**6), alpha=st.floats(0.01, 0.99))
def test_every_arm_takes_the_steps_of_the_plain_recipe(images, alpha):
    recipes = fairness_arms(PLAIN, images, alpha)
    arms = arms_of(recipes)
    assert set(recipes) - set(arms) == {"identifier", "pretrain"}
    assert len(arms) == 14
    assert {total_steps(recipes, name, images) for name in arms} == {step_count(PLAIN, images)}


def test_arms_differ_from_the_plain_recipe_in_what_they_are_named_for():
    recipes = fairness_arms(PLAIN, 1973, 0.3)
    assert {name: changed(recipe) for name, recipe in recipes.items()} == {
        "erm": set(),
        "colour": {"augmentation"},
        "heuristic": {"augmentation"},
        "randaugment": {"augmentation"},
        "oversampling": {"sampling"},
        "focal": {"loss"},
        "group_balanced": {"sampling"},
        "group_dro": {"loss", "group_by", "sampling"},
        "identifier": set(),
        "jtt": {"sampling"},
        "label_synthesis": {"mix"},
        "label_synthesis_colour": {"mix", "augmentation"},
        "label_attribute_synthesis": {"mix"},
        "label_attribute_synthesis_colour": {"mix", "augmentation"},
        "pretrain": {"mix"},
        "pretrain_finetune": {"initialisation", "schedule"},
    }
    augmentations = {name: recipe.augmentation for name, recipe in recipes.items()}
    assert augmentations["colour"] == augmentations["label_synthesis_colour"]
    assert augmentations["colour"] == augmentations["label_attribute_synthesis_colour"]
    assert augmentations["heuristic"].colour == augmentations["colour"].colour
    assert recipes["label_synthesis"].mix.source != recipes["label_attribute_synthesis"].mix.source
    assert {recipes[name].mix.real_fraction for name in recipes if "synthesis" in name} == {0.3}
    assert (recipes["pretrain"].mix.real_fraction, recipes["pretrain_finetune"].mix.real_fraction) == (0, 1)
    assert set(recipes["group_balanced"].sampling.by) == {"label", TONE, "domain"}
    assert set(recipes["oversampling"].sampling.by) == set(recipes["group_dro"].group_by) == {"label", TONE}


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5])
def test_a_mix_of_nothing_is_named(alpha):
    with pytest.raises(AmalgamError, match="which mixes nothing"):
        fairness_arms(PLAIN, 1973, alpha)


def test_a_budget_that_cannot_be_shared_is_named():
    with pytest.raises(AmalgamError, match=r"takes 1 step\(s\), too few to share"):
        fairness_arms(PLAIN, 20, 0.5)


def test_a_remedy_changes_one_thing_and_takes_the_same_steps():
    base = fairness_arms(PLAIN, 1973, 0.3)["label_attribute_synthesis"].model_dump()
    remedies = remedy_arms(PLAIN, 1973, 0.3)
    control = remedies.pop(CONTROL).model_dump()
    plain = fairness_arms(PLAIN, 1973, 0.3)["oversampling"].model_dump()
    assert {key for key in control if control[key] != plain[key]} == {"augmentation", "description"}
    assert control["augmentation"] == remedies["augmented_synthesis"].augmentation.model_dump()
    assert set(remedies) == set(REMEDIES)
    for name, recipe in remedies.items():
        tree = recipe.model_dump()
        differs = {key for key in tree if tree[key] != base[key]} - {"description"}
        one = {"balanced_synthesis": "sampling", "augmented_synthesis": "augmentation"}.get(name, "mix")
        assert differs == {one}, name
        assert recipe.mix.real_fraction == 0.3
        assert step_count(recipe, 1973) == step_count(PLAIN, 1973)
        assert recipe.mix.source in KINDS
    assert len({recipe.mix.source for recipe in remedies.values()}) == len(remedies) - 1
