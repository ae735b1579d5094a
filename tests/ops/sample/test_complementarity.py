"""Nearest neighbours among training, held-out and generated images: by brute force, and where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ops.sample.complementarity import HELD_OUT, ITSELF, TRAIN, complementarity, evenness, neighbour_kinds


def brute_force(generated, train, held_out):
    """Return kinds and places by sorting all neighbours of each image; the first kind wins among equals."""
    found = []
    for number, image in enumerate(generated):
        others = [(float(np.linalg.norm(image - each)), TRAIN, place) for place, each in enumerate(train)]
        others += [(float(np.linalg.norm(image - each)), HELD_OUT, place) for place, each in enumerate(held_out)]
        others += [
            (float(np.linalg.norm(image - each)), ITSELF, -1) for place, each in enumerate(generated) if place != number
        ]
        found.append(min(others)[1:])
    return np.array(found).T


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12).flatmap(lambda n: arrays(np.int64, (3, n, 2), elements=st.integers(0, 4))))
def test_kinds_and_places_are_those_of_a_brute_force_search(points):
    """On a grid, where distances are often equal."""
    generated, train, held_out = points.astype(np.float64)
    kinds, places = neighbour_kinds(generated, train, held_out)
    expected, where = brute_force(generated, train, held_out)
    assert kinds.tolist() == expected.tolist()
    for kind, pool in ((TRAIN, train), (HELD_OUT, held_out)):
        mine = kinds == kind
        np.testing.assert_array_equal(pool[places[mine]], pool[where[mine]])


def test_images_of_one_distribution_have_all_kinds_of_neighbours_alike():
    generated, train, held_out = np.random.default_rng(0).normal(size=(3, 1500, 4))
    found = complementarity(generated, train, held_out, 200, 0)
    assert [share[1] < 1 / 3 < share[2] for share in found.shares] == [True] * 3
    assert found.evenness[0] > 0.995
    again = complementarity(generated, train, held_out, 200, 0)
    assert again == found


def test_copies_have_training_neighbours_only():
    train, held_out = np.random.default_rng(1).normal(size=(2, 60, 4))
    found = complementarity(np.repeat(train[:30], 2, axis=0), train, held_out, 200, 0)
    assert found.shares[TRAIN][0] == 1, "also where a copy is repeated"
    assert found.evenness[0] == 0
    assert found.coverage[0] == 30 / 120


def test_images_unlike_all_real_ones_are_their_own_neighbours():
    train, held_out = np.random.default_rng(2).normal(size=(2, 50, 4))
    found = complementarity(100 + train[::-1], train, held_out, 200, 0)
    assert found.shares[ITSELF][0] == 1
    assert found.coverage[0] == 0


def test_evenness_is_entropy_over_its_largest_value():
    values = evenness(np.array([[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.5, 0.5, 0]]))
    np.testing.assert_allclose(values, [1, 0, np.log(2) / np.log(3)], atol=1e-12)


def test_kinds_of_different_numbers_are_refused():
    with pytest.raises(ValueError, match="4, 5 and 5 images"):
        neighbour_kinds(np.zeros((4, 2)), np.zeros((5, 2)), np.zeros((5, 2)))
