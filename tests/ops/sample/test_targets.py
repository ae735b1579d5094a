"""Tables that a user asks for: fitted as closed forms say, refused where they contradict themselves or the data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ops.errors import AmalgamError
from ops.sample.cells import Grid, JointTable
from ops.sample.config import Target
from ops.sample.targets import fit_target, proportional_fit, read_targets

GRID = Grid(("label", "tone"), (("a", "b"), ("0", "1", "2")))


def joint(images, grid=GRID) -> JointTable:
    images = np.array(images)
    occurring = {
        f: frozenset(
            v
            for v, n in zip(values, images.sum(axis=tuple(a for a in range(images.ndim) if a != axis)), strict=True)
            if n
        )
        for axis, (f, values) in enumerate(zip(grid.factors, grid.values, strict=True))
    }
    return JointTable(grid, images, images.astype(np.float64), occurring)


TABLE = joint([[10, 5, 1], [4, 20, 0]])
TONES = [{"tone": 0, "share": 0.2}, {"tone": "1", "share": 0.3}, {"tone": 2, "share": 0.5}]
LABELS = [{"label": "a", "share": 0.7}, {"label": "b", "share": 0.3}]


def fitted(*tables, table=TABLE, prior=0.0, folders=None):
    config = Target(tables=[t if isinstance(t, dict) else {"rows": t} for t in tables], prior=prior)
    return fit_target(config, read_targets(config, folders or {}), table)


def test_one_margin_scales_its_columns():
    found = fitted(TONES)
    np.testing.assert_allclose(found, TABLE.images / TABLE.images.sum(axis=0) * [0.2, 0.3, 0.5])


def test_a_fit_keeps_the_odds_ratio_and_has_both_margins():
    """Of a 2 x 2 table both determine it."""
    grid = Grid(("label", "tone"), (("a", "b"), ("0", "1")))
    images = [[10, 5], [4, 20]]
    tones = [{"tone": 0, "share": 0.4}, {"tone": 1, "share": 0.6}]
    found = fitted(LABELS, tones, table=joint(images, grid))
    np.testing.assert_allclose(found.sum(axis=1), [0.7, 0.3])
    np.testing.assert_allclose(found.sum(axis=0), [0.4, 0.6])
    assert found[0, 0] * found[1, 1] / (found[0, 1] * found[1, 0]) == pytest.approx(10 * 20 / (5 * 4))


def test_a_fit_is_the_nearest_table_in_relative_entropy():
    rng = np.random.default_rng(0)
    start, other = rng.uniform(0.5, 3, (2, 3)), rng.uniform(0.5, 3, (2, 3))
    start, other = start / start.sum(), other / other.sum()
    margins = [other.sum(axis=1, keepdims=True), other.sum(axis=0, keepdims=True)]
    found = proportional_fit(start, margins)

    def entropy(x):
        return (x * np.log(x / start.ravel())).sum()

    constraints = [
        {"type": "eq", "fun": lambda x: x.reshape(2, 3).sum(axis=1) - margins[0].ravel()},
        {"type": "eq", "fun": lambda x: (x.reshape(2, 3).sum(axis=0) - margins[1].ravel())[:2]},  # the third follows
    ]
    best = minimize(
        entropy, other.ravel(), bounds=[(1e-9, 1)] * 6, constraints=constraints, method="SLSQP", options={"ftol": 1e-14}
    )
    assert best.success
    np.testing.assert_allclose(found.ravel(), best.x, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_margins_of_any_table_on_the_same_cells_are_reached(seed):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.1, 1, (3, 2, 4)) * (rng.random((3, 2, 4)) < 0.8)
    other = start * rng.uniform(0.2, 5, start.shape)
    if not other.any():
        return
    other /= other.sum()
    margins = [
        other.sum(axis=2, keepdims=True),
        other.sum(axis=(0, 1), keepdims=True),
        other.sum(axis=(0, 2), keepdims=True),
    ]
    found = proportional_fit(start, margins)
    np.testing.assert_allclose(found.sum(axis=2, keepdims=True), margins[0], atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=(0, 1), keepdims=True), margins[1], atol=1e-6)
    assert (found[start == 0] == 0).all()


CELLS = [
    {"label": "a", "tone": 0, "share": 0.1},
    {"label": "a", "tone": 1, "share": 0.3},
    {"label": "b", "tone": 2, "share": 0.6},
]


def test_a_table_of_all_factors_is_the_answer_and_may_compose():
    expected = np.array([[0.1, 0.3, 0], [0, 0, 0.6]])
    np.testing.assert_allclose(fitted(CELLS), expected)
    np.testing.assert_allclose(fitted(TABLE_OF_TONES, CELLS), expected)


TABLE_OF_TONES = [{"tone": 0, "share": 0.1}, {"tone": 1, "share": 0.3}, {"tone": 2, "share": 0.6}]


def test_rounded_shares_are_taken_as_they_are_meant():
    thirds = [{"tone": t, "share": 0.3333} for t in range(3)]
    np.testing.assert_allclose(fitted(thirds).sum(axis=0), 1 / 3)


def test_files_are_read_from_their_folder(tmp_path):
    frame = pd.DataFrame(TONES).astype({"tone": str})
    frame.to_csv(tmp_path / "tone.csv", index=False)
    frame.to_parquet(tmp_path / "tone.parquet")
    for name in ("tone.csv", "tone.parquet"):
        found = fitted({"file": f"data/census/{name}"}, folders={"data/census": tmp_path})
        np.testing.assert_allclose(found, fitted(TONES))
    with pytest.raises(AmalgamError, match=r"data/census/age\.csv is missing"):
        fitted({"file": "data/census/age.csv"}, folders={"data/census": tmp_path})
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(AmalgamError, match=r"broken\.parquet cannot be read"):
        fitted({"file": "data/census/broken.parquet"}, folders={"data/census": tmp_path})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"tone": 0, "share": 0.5}, {"tone": 1, "share": 0.4}], "add up to 0.9, not to 1"),
        ([{"tone": 0, "share": 1.5}, {"tone": 1, "share": -0.5}], r"share '1.5', which is not in \[0, 1\]"),
        ([{"tone": 0, "share": "half"}, {"tone": 1, "share": 0.5}], "share 'half'"),
        ([{"tone": 0, "share": 0.5}, {"tone": 0, "share": 0.5}], "tone=0 twice"),
        ([{"tone": 0, "share": 0.5}, {"label": "a", "share": 0.5}], "partly open"),
        ([{"tone": 0}], "needs a column share"),
        ([{"share": 1.0}], "one for each of its factors"),
    ],
)
def test_a_table_that_is_wrong_in_itself_says_where(rows, message):
    with pytest.raises(AmalgamError, match=message) as error:
        fitted(rows)
    assert "sampling_plan.strategy.tables" in error.value.remedy
    assert "table 1" in error.value.message


def test_a_value_that_the_dataset_has_not_is_refused():
    with pytest.raises(AmalgamError, match="tone '7', which the dataset has not"):
        fitted([{"tone": 7, "share": 1.0}])


def test_a_value_that_training_never_showed_is_refused_even_in_a_whole_table():
    table = joint([[10, 5, 0], [4, 20, 0]])
    for rows in (TONES, CELLS):
        with pytest.raises(AmalgamError, match="tone '2', which no training image shows"):
            fitted(rows, table=table, prior=1.0)


def test_tables_that_disagree_are_named():
    other = [{"tone": 0, "share": 0.12}, {"tone": 1, "share": 0.2}, {"tone": 2, "share": 0.68}]
    with pytest.raises(AmalgamError, match=r"table 1 \(rows\) gives tone=1 the share 0.3, table 2 \(rows\) 0.2"):
        fitted(TABLE_OF_TONES, other)


def test_sums_that_empty_cells_forbid_are_refused_until_a_prior_fills_them():
    """Class b has no tone 2: its tones 0 and 1 must be 0.3, and then class a would have more than its 0.1."""
    labels = [{"label": "a", "share": 0.1}, {"label": "b", "share": 0.9}]
    with pytest.raises(AmalgamError, match="no image of some combinations") as error:
        fitted(labels, TONES)
    assert "prior" in error.value.remedy
    found = fitted(labels, TONES, prior=0.5)
    np.testing.assert_allclose(found.sum(axis=1), [0.1, 0.9], atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), [0.2, 0.3, 0.5], atol=1e-6)
    assert found[1, 2] > 0.39
