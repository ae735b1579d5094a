"""Soups: corners of the simplex are the ingredients, the grid is complete, strangers are refused."""

import itertools

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import AmalgamError
from ops.models.checkpoint import load_classifier
from ops.soup.combine import combine, grid
from ops.soup.config import SoupConfig
from ops.soup.search import make_soup
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe

CPU = torch.device("cpu")


def states(count: int = 3):
    rng = torch.Generator().manual_seed(0)
    return [
        {
            "weight": torch.randn(4, 3, generator=rng),
            "norm.running_var": torch.rand(3, generator=rng) + 0.1,
            "norm.num_batches_tracked": torch.tensor(7 + n),
        }
        for n in range(count)
    ]


def test_a_corner_is_the_ingredient():
    for corner in range(3):
        weights = [float(i == corner) for i in range(3)]
        mixed = combine(states(), weights)
        assert torch.equal(mixed["weight"], states()[corner]["weight"])
        assert mixed["norm.num_batches_tracked"] == 7


def test_a_linear_model_mixes_its_outputs():
    """For a model linear in its weights, the soup's output is the mix of the outputs, extrapolation included."""
    x = torch.randn(5, 3)
    for weights in ([0.25, 0.25, 0.5], [1.5, -0.25, -0.25]):
        outputs = sum(w * (x @ s["weight"].T) for w, s in zip(weights, states(), strict=True))
        torch.testing.assert_close(x @ combine(states(), weights)["weight"].T, outputs)


def test_running_variances_stay_positive():
    mixed = combine(states(2), [20.0, -19.0])
    assert (mixed["norm.running_var"] > 0).all()


def test_weights_must_add_up_to_one():
    with pytest.raises(ValueError, match="not 1"):
        combine(states(2), [0.5, 0.6])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 4), parts=st.sampled_from([1, 2, 4]), extrapolate=st.integers(0, 2))
def test_the_grid_is_every_mix(count, parts, extrapolate):
    found = grid(count, 1 / parts, extrapolate)
    every = itertools.product(range(-extrapolate, parts + extrapolate + 1), repeat=count)
    expected = {tuple(n / parts for n in numbers) for numbers in every if sum(numbers) == parts}
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.fixture(scope="module")
def ingredients(shards, tmp_path_factory):
    home = tmp_path_factory.mktemp("ingredients")
    base = {
        "architecture": {"widths": [8, 16], "blocks": [1, 1]},
        "attack": {"steps": 2, "step_size": 0.5},
        "schedule": {"epochs": 6, "batch": 24, "lr": 0.1},
        "reviews": {"count": 1},
        "averaging": {"decay": 0.9},
    }

    class Quiet:
        def progress(self, *args, **kwargs): ...
        def metrics(self, *args): ...
        def note(self, *args): ...

    def train(name, threat, initial, seed=0):
        out, scratch = home / f"{name}-{seed}", home / f"{name}-{seed}-scratch"
        out.mkdir()
        scratch.mkdir()
        chosen = Recipe.model_validate(base | {"threat": threat})
        train_classifier(chosen, name, shards, None, initial, seed, out, scratch, home / "cache", CPU, Quiet())
        return out

    real = train("real", {"norm": "linf", "eps": 2 / 255}, None)
    tuned = train("l2", {"norm": "l2", "eps": 0.25}, real)
    return {
        "classifier/real": real,
        "ingredient/l2": tuned,
        "stranger": train("real", {"norm": "l2", "eps": 0.25}, None, 1),
    }


def config(**changes) -> SoupConfig:
    base = {
        "ingredients": ["classifier/real", "ingredient/l2"],
        "step": 0.5,
        "threats": [{"norm": "linf", "eps": 2 / 255}, {"norm": "l2", "eps": 0.25}],
        "attack_steps": 3,
        "images": 32,
    }
    return SoupConfig.model_validate(base | changes)


def make(chosen, models, shards, folders, monitor, tag="a"):
    out, scratch, cache = folders(f"soup-{tag}", f"soup-scratch-{tag}", "cache")
    make_soup(chosen, models, shards, 0, out, scratch, cache, CPU, monitor)
    return out


def test_the_soup_is_the_best_of_the_sweep(ingredients, shards, folders, recorder):
    models = {k: ingredients[k] for k in ("classifier/real", "ingredient/l2")}
    out = make(config(), models, shards, folders, recorder)
    sweep = pq.read_table(out / "sweep.parquet").to_pylist()
    assert [row["weights"] for row in sweep] == [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    model, card = load_classifier(out, CPU)
    assert card.metrics["worst"] == max(row["worst"] for row in sweep)
    assert card.metrics["worst"] >= max(sweep[0]["worst"], sweep[2]["worst"]), "a soup may be an ingredient itself"
    for row in sweep:
        assert row["worst"] == min(row["linf 2/255"], row["l2 63.75/255"])
    mixed = card.recipe["weights"]
    states = [load_classifier(folder, CPU)[0].state_dict() for folder in models.values()]
    expected = combine(states, list(mixed.values()))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.items())


def test_a_killed_sweep_does_not_measure_again(ingredients, shards, folders, recorder, recorder_type):
    models = {k: ingredients[k] for k in ("classifier/real", "ingredient/l2")}
    whole = make(config(), models, shards, folders, recorder)
    with pytest.raises(KeyboardInterrupt):
        make(config(), models, shards, folders, recorder_type(stop_after=1), tag="killed")
    resumed = make(config(), models, shards, folders, recorder, tag="killed")
    for name in ("model.safetensors", "model.json", "sweep.parquet"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_strangers_are_not_mixed(ingredients, shards, folders, recorder):
    models = {k: ingredients[k] for k in ("classifier/real", "stranger")}
    with pytest.raises(AmalgamError, match="differ in their ancestor"):
        make(config(), models, shards, folders, recorder)
