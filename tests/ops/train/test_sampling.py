"""Which images a batch has, and which groups they are of: counted, and against walking the sequence by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.runtime import derive_seed
from ops.train.groups import group_images
from ops.train.mixing import make_batches
from ops.train.recipe import Recipe
from ops.train.sampling import balanced, repeated, uniform
from ops.train.sampling_config import Sampling

TONE = ["label", "attribute:tone"]


def recipe(**changes) -> Recipe:
    return Recipe.model_validate({"loss": "clean", "schedule": {"epochs": 1, "batch": 16}} | changes)


@pytest.fixture
def pair(shards, synthetic, tmp_path):
    return tuple(open_images(folder, "train", tmp_path) for folder in (shards, synthetic))


def members(sizes: list[int]) -> np.ndarray:
    """Return groups (N,) of the given sizes, in mixed order."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(1).permutation(groups)


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(sizes=SIZES, start=st.integers(0, 200), count=st.integers(1, 90))
def test_any_part_of_a_balanced_sequence_has_all_groups_equally_often_within_one(sizes, start, count):
    groups = members(sizes)
    for part in (balanced(groups, 3)(start, count), balanced(groups, 3)(0, len(groups))):
        counts = np.bincount(groups[part], minlength=len(sizes))
        assert counts.max() - counts.min() <= 1


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, step=st.integers(0, 12), count=st.integers(1, 40))
def test_a_balanced_group_goes_through_its_images_in_shuffled_epochs(sizes, step, count):
    """Each epoch of a group is a permutation of its images, and a batch needs none of the batches before it."""
    groups, draws = members(sizes), balanced(members(sizes), 3)
    walked = np.concatenate([draws(s * count, count) for s in range(step + 1)])
    assert np.array_equal(draws(0, len(walked)), walked)
    for group, size in enumerate(sizes):
        mine, own = walked[groups[walked] == group], np.flatnonzero(groups == group)
        for epoch in range(len(mine) // size):
            assert np.array_equal(np.sort(mine[epoch * size : (epoch + 1) * size]), own)


def test_balanced_draws_depend_on_the_seed_and_every_group_comes_first():
    groups = members([3, 5, 7])
    first = [balanced(groups, seed)(0, 1)[0] for seed in range(40)]
    assert set(groups[first]) == {0, 1, 2}
    assert not np.array_equal(balanced(groups, 0)(0, 30), balanced(groups, 1)(0, 30))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 30), wrong=st.sets(st.integers(0, 29)), times=st.integers(1, 6), epoch=st.integers(0, 3))
def test_an_epoch_has_mistakes_as_often_as_asked_and_the_rest_once(size, wrong, times, epoch):
    errors = np.array(sorted(e for e in wrong if e < size), dtype=np.int64)
    length = size + (times - 1) * len(errors)
    counts = np.bincount(repeated(size, errors, times, 3)(epoch * length, length), minlength=size)
    expected = np.ones(size, np.int64)
    expected[errors] = times
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize(("errors", "times"), [([], 5), ([1, 4], 1)])
def test_without_repetition_mistakes_change_nothing(errors, times):
    found = repeated(7, np.array(errors, dtype=np.int64), times, 3, "real")(5, 20)
    assert np.array_equal(found, uniform(7, 3, "real")(5, 20))


def test_uniform_batches_are_the_epochs_that_they_always_were(pair):
    """The formula written out: permutations seeded by (seed, kind, epoch), rows put in an order seeded by the step."""
    real, synthetic = pair
    batches = make_batches(recipe(mix={"real_fraction": 0.25, "label_smoothing": 0}), real, synthetic, 7)
    for step in (0, 9):
        chosen = []
        for kind, images, count in (("real", real, 4), ("synthetic", synthetic, 12)):
            places = range(step * count, (step + 1) * count)
            epochs = [np.random.default_rng(derive_seed(7, kind, p // len(images))) for p in places]
            order = [rng.permutation(len(images))[p % len(images)] for rng, p in zip(epochs, places, strict=True)]
            chosen.append(images.batch(order))
        rows = np.random.default_rng(derive_seed(7, "rows", step)).permutation(16)
        assert torch.equal(batches.at(step)[0], torch.cat(chosen)[rows])


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.0])
def test_groups_are_those_of_the_rows(fraction, pair):
    """Each row is looked up by its pixels, and its group read from the manifest."""
    chosen = recipe(loss="group_dro", group_by=[*TONE, "domain"], mix={"real_fraction": fraction})
    batches = make_batches(chosen, *pair, 0)
    table = {}
    for images in pair:
        keys = images.table[["label", "attribute:tone", "domain"]].itertuples(index=False)
        names = (f"label={y}, attribute:tone={a}, domain={d}" for y, a, d in keys)
        table |= {image.tobytes(): name for image, name in zip(images.images, names, strict=True)}
    for step in range(3):
        x, groups = batches.at(step)[0], batches.groups_at(step)
        pixels = (x * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        assert [batches.groups.names[g] for g in groups] == [table[row.tobytes()] for row in pixels]


def test_groups_are_counted_over_all_images_that_are_drawn(pair):
    """Eight groups: labels and tones in turns, domains by number; 96 real and 40 synthetic images."""
    for fraction, total in ((1.0, 96), (0.5, 136), (0.0, 40)):
        chosen = recipe(loss="group_dro", group_by=["domain"], mix={"real_fraction": fraction})
        groups = make_batches(chosen, *pair, 0).groups
        assert groups.names == ("domain=paper", "domain=slate")
        kinds = {1.0: pair[:1], 0.5: pair, 0.0: pair[1:]}[fraction]
        expected = sum((images.table["domain"].value_counts().sort_index() for images in kinds), start=0)
        assert groups.counts.tolist() == expected.tolist()
        assert groups.counts.sum() == total


def test_recipes_without_groups_make_none(pair):
    batches = make_batches(recipe(mix={"real_fraction": 0.5}), *pair, 0)
    assert batches.groups_at(0) is None


def test_a_balanced_batch_has_the_rare_group_as_often(pair):
    real, _ = pair
    rare = np.flatnonzero((real.table["attribute:tone"] == "1") & (real.table["label"] == "disc"))[2:]
    few = real.subset(np.setdiff1d(np.arange(len(real)), rare))
    batches = make_batches(recipe(sampling={"method": "balanced", "by": TONE}), few, None, 0)
    known = {i.tobytes(): (y, a) for i, y, a in zip(few.images, few.labels, few.table["attribute:tone"], strict=True)}
    for step in range(5):
        pixels = (batches.at(step)[0] * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        counts = pd.Series([known[row.tobytes()] for row in pixels]).value_counts()
        assert counts.to_list() == [4, 4, 4, 4]


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"label": ["a", "b", "a", "b"], "domain": ["x"] * 4} | columns)


@pytest.mark.parametrize(
    ("key", "columns", "message"),
    [
        ("attribute:sex", {}, "attribute:sex, which the real images do not have"),
        ("attribute:sex", {"attribute:sex": ["f", None, "m", np.nan]}, "which 2 of 4 real images lack"),
        ("attribute:sex", {"attribute:sex": ["f", "", "m", "m"]}, "which 1 of 4 real images lack"),
        ("attribute:note", {"attribute:note": ["one", "two", "three", "three"]}, "free text makes no groups"),
    ],
)
def test_what_makes_no_groups_is_named(key, columns, message):
    with pytest.raises(AmalgamError, match=message) as error:
        group_images(["label", key], table(**columns), None, "sampling.by")
    assert "sampling.by" in str(error.value)


def test_synthetic_images_need_the_groups_too():
    with pytest.raises(AmalgamError, match="which the synthetic images do not have") as error:
        group_images(["attribute:sex"], table(**{"attribute:sex": ["f", "f", "m", "m"]}), table(), "group_by")
    assert error.value.remedy == "use label, domain"


def test_mistakes_need_the_model_that_makes_them(pair):
    chosen = recipe(sampling={"method": "errors", "identifier": "early"})
    with pytest.raises(AmalgamError, match="what early gets wrong, but that model is missing"):
        make_batches(chosen, *pair, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": TONE}, "by is set.*method is uniform.*method: balanced"),
        ({"upweight": 3}, "upweight is set.*method: errors"),
        ({"method": "balanced"}, "balanced needs groups"),
        ({"method": "errors"}, "set sampling.identifier"),
        ({"method": "balanced", "by": ["tone"]}, "by.0"),
        ({"method": "balanced", "by": ["label", "label"]}, "name each key once"),
        ({"method": "errors", "identifier": "early", "upweight": 0}, "upweight"),
    ],
)
def test_settings_that_make_no_sense_say_what_was_meant(changes, message):
    with pytest.raises(ValidationError, match=message):
        Sampling(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_by": ["label"]}, "group_by is set.*loss: group_dro"),
        ({"gamma": 1.0}, "gamma is set.*loss: focal"),
        ({"loss": "group_dro"}, "group_dro needs groups"),
        (
            {"loss": "group_dro", "group_by": ["label"], "augmentation": {"mixing": {"method": "cutmix"}}},
            "group_dro needs labels that are not mixed",
        ),
        (
            {"loss": "group_dro", "group_by": ["label"], "schedule": {"epochs": 1, "batch": 16, "accumulate": 2}},
            "accumulate to 1",
        ),
        (
            {"mix": {"real_fraction": 0}, "sampling": {"method": "balanced", "by": ["label"]}},
            "of which mix.real_fraction 0 leaves none",
        ),
    ],
)
def test_recipes_that_make_no_sense_say_what_was_meant(changes, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


def test_a_recipe_names_what_it_needs():
    assert recipe().needs == []
    both = recipe(initialisation="pretrain", sampling={"method": "errors", "identifier": "early"})
    assert both.needs == ["pretrain", "early"]
