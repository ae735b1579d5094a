"""Shares of cells: what each strategy keeps of the data, and what it makes uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ops.errors import AmalgamError
from ops.sample.cells import Grid, JointTable
from ops.sample.config import ErrorDriven, SamplingPlanConfig, Strategy
from ops.sample.strategies import CellErrors, allocate, check_known, error_factors, factors_of, target_shares

GRID = Grid(("label", "domain", "tone"), (("a", "b"), ("x", "y"), ("0", "1", "2")))


def joint(images) -> JointTable:
    images = np.array(images)
    values = {f: frozenset(v) for f, v in zip(GRID.factors, GRID.values, strict=True)}
    return JointTable(GRID, images, images.astype(np.float64), values)


TABLE = joint([[[6, 2, 0], [1, 1, 0]], [[5, 0, 1], [4, 0, 0]]])
"""Twenty images; tone 2 of class a, tone 1 of class b and (b, y, 2) never occur."""


def shares(kind: str, table=TABLE, **fields):
    return target_shares(TypeAdapter(Strategy).validate_python({"kind": kind, **fields}), table, {})


def strategy(kind: str, **fields):
    return TypeAdapter(Strategy).validate_python({"kind": kind, **fields})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.integers(0, 5000))
def test_allocation_adds_up_and_is_within_one(values, count):
    values = np.array(values) / np.sum(values)
    found = allocate(values, count)
    assert found.sum() == count
    assert (found >= 0).all()
    assert (np.abs(found - values * count) < 1 + 1e-9).all()


def test_as_data_is_the_data():
    np.testing.assert_allclose(shares("as_data"), TABLE.images / 20)


def test_classes_are_balanced_and_stay_as_they_are_inside():
    found = shares("class_balanced")
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 0.5)
    for label in range(2):
        np.testing.assert_allclose(found[label] / 0.5, TABLE.images[label] / TABLE.images[label].sum())


@pytest.mark.parametrize("kind", ["attribute_balanced", "domain_balanced"])
def test_values_are_uniform_in_each_class_and_classes_as_in_the_data(kind):
    found = shares(kind)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), [0.5, 0.5])
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape))
    assert (found[TABLE.images == 0] > 0).all(), "combinations are composed"


def test_a_class_or_value_that_never_occurs_gets_nothing():
    table = joint([[[6, 0, 2], [1, 0, 1]], [[0] * 3] * 2])
    for kind in ("as_data", "class_balanced", "attribute_balanced", "domain_balanced"):
        found = shares(kind, table)
        assert found.sum() == pytest.approx(1)
        assert found[1].sum() == found[:, :, 1].sum() == 0


def test_strategies_say_what_their_cells_are_made_of():
    assert factors_of(strategy("domain_balanced", attributes=["tone"]), {}) == ["domain", "tone"]
    assert factors_of(strategy("attribute_balanced", attributes=["tone", "sex"]), {}) == ["tone", "sex"]
    assert factors_of(strategy("as_data"), {}) == []
    rows = [{"tone": 0, "sex": "f", "share": 1.0}]
    assert factors_of(strategy("target", tables=[{"rows": rows}]), {}) == ["tone", "sex"]


def errors(images, wrong) -> CellErrors:
    return CellErrors(GRID, np.array(images), np.array(wrong, np.float64))


FEW = errors([[[40, 4, 0], [0, 0, 0]], [[40, 0, 40], [0, 0, 0]]], [[[4, 4, 0], [0, 0, 0]], [[8, 0, 30], [0, 0, 0]]])


def test_errors_are_shrunk_towards_the_class_as_the_formula_says():
    """Without floor and cap the share of a cell is its base times its shrunk error, whatever the scale."""
    config = ErrorDriven(pseudo_count=10, floor=1e-6, cap=1e6)
    base = shares("attribute_balanced")
    factors = error_factors(config, base, FEW)
    mean = 46 / 124
    of_class = [(8 + 10 * mean) / 54, (38 + 10 * mean) / 90]
    expected = np.array(
        [
            [[(4 + 10 * of_class[0]) / 50, (4 + 10 * of_class[0]) / 14, of_class[0]], [of_class[0]] * 3],
            [[(8 + 10 * of_class[1]) / 50, of_class[1], (30 + 10 * of_class[1]) / 50], [of_class[1]] * 3],
        ]
    )
    np.testing.assert_allclose(factors, expected / (base * expected).sum(), rtol=1e-9)
    assert factors[0, 0, 1] < factors[1, 0, 2] * 1.5, (
        "four images of which four are wrong do not outweigh thirty of forty"
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=12, max_size=12),
    st.lists(st.floats(0, 1), min_size=12, max_size=12),
    st.floats(0.05, 1),
    st.floats(1, 8),
)
def test_factors_stay_between_floor_and_cap_and_shares_add_up(images, rates, floor, cap):
    images = np.array(images).reshape(2, 2, 3)
    if not images.any():
        return
    found = errors(images, images * np.array(rates).reshape(2, 2, 3))
    base = shares("attribute_balanced")
    factors = error_factors(ErrorDriven(floor=floor, cap=cap), base, found)
    assert (base * factors).sum() == pytest.approx(1, abs=1e-9)
    assert (factors >= floor - 1e-12).all()
    assert (factors <= cap + 1e-12).all()
    rate = (found.wrong + 10 * found.wrong.sum() / images.sum()) / (images + 10)
    same_class = factors[0].ravel()
    own = found.wrong[0].sum() + 10 * found.wrong.sum() / images.sum()
    own /= images[0].sum() + 10
    rate = ((found.wrong[0] + 10 * own) / (images[0] + 10)).ravel()
    assert (np.diff(same_class[np.argsort(rate, kind="stable")]) >= -1e-9).all(), "more error is never less share"


def test_a_classifier_without_errors_changes_nothing():
    config = strategy("error_driven")
    found = target_shares(config, TABLE, {}, errors(TABLE.images, TABLE.images * 0))
    np.testing.assert_allclose(found, shares("attribute_balanced"))


def test_error_driven_needs_errors_of_some_cell():
    with pytest.raises(AmalgamError, match="no errors of a classifier"):
        target_shares(strategy("error_driven"), TABLE, {})
    with pytest.raises(AmalgamError, match="no image of the split test"):
        target_shares(strategy("error_driven", split="test"), TABLE, {}, errors(TABLE.images * 0, TABLE.images * 0))


KNOWN = {"label": ["a", "b"], "domain": ["x", "y"], "tone": ["0", "1", "2"]}


def test_a_generator_that_knows_all_is_trusted_with_all():
    check_known(TABLE, shares("attribute_balanced"), KNOWN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tone": ["0", "1"]}, "never conditioned on tone '2'"),
        ({"label": []}, "never conditioned on label 'a', 'b'"),
        ({"age": ["old"]}, "conditioned on age, which the dataset has not"),
    ],
)
def test_a_generator_of_other_vocabularies_is_refused(change, message):
    with pytest.raises(AmalgamError, match=message):
        check_known(TABLE, shares("attribute_balanced"), KNOWN | change)


def test_a_generator_without_a_factor_cannot_be_asked_for_it():
    with pytest.raises(AmalgamError, match="not conditioned on tone"):
        check_known(TABLE, shares("attribute_balanced"), {"label": ["a", "b"], "domain": ["x", "y"]})


def test_values_that_get_no_share_need_not_be_known():
    table = joint([[[6, 2, 0], [1, 1, 0]], [[5, 0, 0], [4, 0, 0]]])
    check_known(table, shares("attribute_balanced", table), KNOWN | {"tone": ["0", "1"]})


def test_factors_that_rows_take_from_images_must_be_known_too():
    """Cells are of the class alone, and rows bring the domains and tones of training images."""
    grid = Grid(("label",), (("a", "b"),))
    table = JointTable(grid, np.array([3, 4]), np.array([3.0, 4.0]), TABLE.occurring)
    with pytest.raises(AmalgamError, match="never conditioned on domain 'y'"):
        check_known(table, np.array([0.5, 0.5]), KNOWN | {"domain": ["x"]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": {"kind": "attribute_balanced", "attributes": []}},
        {"strategy": {"kind": "error_driven", "floor": 1.5}},
        {"strategy": {"kind": "error_driven", "cap": 0.9}},
        {"strategy": {"kind": "fair"}},
        {"strategy": {"kind": "target", "tables": []}},
        {"strategy": {"kind": "target", "tables": [{"rows": [], "file": None}]}},
        {"strategy": {"kind": "target", "tables": [{"file": "../census/tone.csv"}]}},
        {"strategy": {"kind": "target", "tables": [{"file": "data/tone.csv"}]}},
        {"gate": {"neighbours": 20, "min_images": 20}},
        {"gate": {"space": "inception"}},
        {"gate": {"min_fidelity": 1.2}},
        {"multiple": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        SamplingPlanConfig.model_validate(wrong)


def test_settings_say_which_folders_and_classifiers_a_plan_needs():
    tables = [{"file": "data/census/tone.csv"}, {"file": "data/census/sex.csv"}, {"rows": [{"tone": 0, "share": 1.0}]}]
    target = SamplingPlanConfig.model_validate({"strategy": {"kind": "target", "tables": tables}})
    assert target.folders == ["data/census"]
    assert target.scorers == SamplingPlanConfig().scorers == []
    gated = {"strategy": {"kind": "error_driven", "scorer": "real"}, "gate": {"space": "classifier"}}
    assert SamplingPlanConfig.model_validate(gated).scorers == ["real", "scorer"]
    assert SamplingPlanConfig.model_validate(gated | {"gate": {}}).scorers == ["real"]
