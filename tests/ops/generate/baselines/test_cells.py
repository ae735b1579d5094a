"""Conditions stand for the right training images, and bad input is named."""

import numpy as np
import pytest

from ops.errors import AmalgamError
from ops.generate.baselines.cells import chosen, find_cells


@pytest.fixture
def some(images_of, mid_grey):
    """Ten bars, of which three have tone 1; six discs, all of tone 0."""
    return images_of(mid_grey(16), labels=[0] * 10 + [1] * 6, tones=["1"] * 3 + ["0"] * 13)


def test_a_cell_with_too_few_images_is_stood_for_by_its_class(some, dataset, plan_rows):
    cells = find_cells(some, dataset, "tone", min_images=4)
    assert cells.of(plan_rows([0], "bar", "0")[0]) == ("bar", "0")
    assert cells.of(plan_rows([0], "bar", "1")[0]) == ("bar", "")
    assert cells.members["bar", "0"].tolist() == list(range(3, 10))
    assert cells.members["bar", ""].tolist() == list(range(10))
    assert cells.counts["bar", "1"] == 3
    assert find_cells(some, dataset, "tone", min_images=3).of(plan_rows([0], "bar", "1")[0]) == ("bar", "1")


def test_a_value_without_any_image_is_stood_for_by_its_class(some, dataset, plan_rows):
    cells = find_cells(some, dataset, "tone", min_images=1)
    assert cells.of(plan_rows([0], "disc", "1")[0]) == ("disc", "")


def test_without_an_attribute_the_class_is_the_condition(some, dataset, plan_rows):
    cells = find_cells(some, dataset, "", min_images=2)
    assert set(cells.members) == {("bar", ""), ("disc", "")}
    assert cells.of(plan_rows([0], "disc", "never heard of")[0]) == ("disc", "")


def test_images_without_weight_do_not_count(images_of, mid_grey, dataset):
    images = images_of(mid_grey(4), labels=[0, 0, 1, 1], weights=[1, 0, 0.5, 1])
    assert find_cells(images, dataset, "", 2).members["bar", ""].tolist() == [0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "ring", "attributes": {"tone": "0"}}, "label 'ring'"),
        ({"label": "bar", "attributes": {"tone": "7"}}, "tone '7'"),
        ({"label": "bar", "attributes": {}}, "tone None"),
    ],
)
def test_unknown_values_are_named(some, dataset, row, message):
    with pytest.raises(AmalgamError, match=message):
        find_cells(some, dataset, "tone", 2).of(row)


def test_a_class_without_images_is_named_when_it_is_asked_for(images_of, mid_grey, dataset, plan_rows):
    cells = find_cells(images_of(mid_grey(5)), dataset, "tone", 2)
    assert cells.of(plan_rows([0], "bar")[0]) == ("bar", "0")
    with pytest.raises(AmalgamError, match="'disc' has no training images"):
        cells.of(plan_rows([0], "disc")[0])


@pytest.mark.parametrize("bad", [float("nan"), -1.0, float("inf")])
def test_weights_that_are_no_weights_are_refused(images_of, mid_grey, dataset, bad):
    with pytest.raises(AmalgamError, match=r"1 weights .* image-2"):
        find_cells(images_of(mid_grey(4), weights=[1, 1, bad, 1]), dataset, "", 2)


def test_an_unknown_attribute_is_refused(some, dataset):
    with pytest.raises(AmalgamError, match="no attribute 'age'"):
        find_cells(some, dataset, "age", 2)


def test_the_choice_of_images_for_a_fit_is_a_subset_that_follows_from_the_seed():
    members = np.arange(100, 200)
    some = chosen(members, 30, 0, "x")
    assert len(set(some.tolist())) == 30
    assert set(some.tolist()) <= set(members.tolist())
    assert np.array_equal(some, chosen(members, 30, 0, "x"))
    assert not np.array_equal(some, chosen(members, 30, 1, "x"))
    assert chosen(members, 100, 0) is members
