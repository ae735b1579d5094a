"""Equal budgets: counted over everything that an arm needs, and taken by the trainings themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import AmalgamError
from ops.models.checkpoint import load_classifier
from ops.train.arms import arms_of, epochs_for, lineage_of, require_equal_steps, total_steps
from ops.train.engine import Engine
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe, step_count

CPU = torch.device("cpu")


def recipe(epochs: float, batch: int = 24, **changes) -> Recipe:
    base = {
        "architecture": {"widths": [8, 16], "blocks": [1, 1]},
        "loss": "clean",
        "schedule": {"epochs": epochs, "batch": batch, "lr": 0.05},
        "reviews": {"count": 1, "images": 32},
    }
    return Recipe.model_validate(base | changes)


def errors(identifier: str) -> dict:
    return {"sampling": {"method": "errors", "identifier": identifier}}


CHAIN = {
    "plain": recipe(10),
    "pretrain": recipe(5, mix={"real_fraction": 0.0}),
    "tuned": recipe(5, initialisation="pretrain"),
    "early": recipe(2, initialisation="pretrain"),
    "both": recipe(3, initialisation="pretrain", **errors("early")),
}


@settings(max_examples=200, deadline=None)
@given(steps=st.integers(1, 10**6), images=st.integers(1, 10**9), batch=st.integers(2, 4096))
def test_epochs_make_exactly_the_steps(steps, images, batch):
    epochs = epochs_for(steps, images, batch)
    assert step_count(recipe(epochs, batch), images) == steps
    assert step_count(recipe(float(str(epochs)), batch), images) == steps, "as it is printed"


def test_epochs_are_short_where_they_can_be():
    assert epochs_for(40, 960, 240) == 10
    assert epochs_for(10, 96, 24) == 2.6


def test_every_training_that_an_arm_needs_counts_once():
    """With 96 images a batch of 24 makes four steps an epoch; `both` needs `pretrain` twice, which is trained once."""
    assert lineage_of(CHAIN, "both") == ["pretrain", "early", "both"]
    assert {name: total_steps(CHAIN, name, 96) for name in CHAIN} == {
        "plain": 40,
        "pretrain": 20,
        "tuned": 40,
        "early": 28,
        "both": 40,
    }
    assert arms_of(CHAIN) == ["plain", "tuned", "both"]
    assert require_equal_steps(CHAIN, 96) == 40


def test_the_arm_that_differs_is_named_with_the_epochs_that_it_needs():
    with pytest.raises(AmalgamError, match=r"most arms take 40 optimizer steps, but both takes 48") as error:
        require_equal_steps(CHAIN | {"both": recipe(5, initialisation="pretrain", **errors("early"))}, 96)
    assert "pretrain: 20, early: 8, both: 20" in error.value.message
    assert error.value.remedy == "set schedule.epochs of both to 3"
    longer = CHAIN | {"tuned": recipe(1, initialisation="plain")}
    with pytest.raises(AmalgamError, match="tuned takes 44") as error:
        require_equal_steps(longer, 96, ["both", "tuned", "plain"])
    assert error.value.remedy == "shorten what tuned needs: plain"


def test_other_batches_and_unknown_arms_are_named():
    with pytest.raises(AmalgamError, match="arm wide: wide has batches of 48, the others of 24"):
        require_equal_steps(CHAIN | {"wide": recipe(20, 48)}, 96)
    with pytest.raises(AmalgamError, match="'nobody' is no recipe"):
        require_equal_steps(CHAIN, 96, ["plain", "nobody"])
    with pytest.raises(AmalgamError, match="recipe lost needs 'nobody', which is no recipe"):
        require_equal_steps(CHAIN | {"lost": recipe(1, initialisation="nobody")}, 96)
    with pytest.raises(AmalgamError, match="no arms"):
        require_equal_steps({}, 96)


def test_a_circle_is_named():
    circle = {"a": recipe(1, initialisation="b"), "b": recipe(1, **errors("a"))}
    with pytest.raises(AmalgamError, match="in a circle: a <- b <- a"):
        lineage_of(circle, "a")


def test_pretraining_on_synthetic_images_and_finetuning_take_the_steps_of_the_plain_recipe(
    shards, synthetic, folders, recorder_type, monkeypatch
):
    """Steps are counted as they are taken; the second training starts from the weights that the first one kept."""
    recipes = {name: CHAIN[name] for name in ("plain", "pretrain", "tuned")}
    taken, begun = dict.fromkeys(recipes, 0), {}
    step = Engine.step

    def counted(self, number):
        if not number:
            begun[self.name] = {k: v.clone() for k, v in self.model.state_dict().items()}
        taken[self.name] += 1
        return step(self, number)

    monkeypatch.setattr(Engine, "step", counted)
    outs = {}
    for name, chosen in recipes.items():
        out, scratch, cache = folders(f"out-{name}", f"scratch-{name}", "cache")
        extra = synthetic if chosen.uses_synthetic else None
        places = (shards, extra, outs.get(chosen.initialisation), 0, out, scratch, cache, CPU, recorder_type())
        train_classifier(chosen, name, *places)
        outs[name] = out
    assert taken["pretrain"] + taken["tuned"] == taken["plain"] == require_equal_steps(recipes, 96)
    kept, card = load_classifier(outs["pretrain"], CPU)
    assert all(torch.equal(value, begun["tuned"][key]) for key, value in kept.state_dict().items())
    assert load_classifier(outs["tuned"], CPU)[1].mean == card.mean
