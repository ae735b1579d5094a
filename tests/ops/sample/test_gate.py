"""Cells that a generator fails in are found, by what it shows and by what it leaves out; few images decide nothing."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ops.errors import AmalgamError
from ops.evaluate.intervals import wilson
from ops.sample.cells import Grid
from ops.sample.config import GateConfig
from ops.sample.gate import Embedded, Recovered, expected_coverage, gate_cells

GRID = Grid(("label", "tone"), (("bar", "disc"), ("0", "1")))
CONFIG = GateConfig(min_images=20, neighbours=3, min_fidelity=0.5, min_coverage=0.5)
MEANS = np.array([[0, 0], [8, 0], [0, 8], [8, 8]])


def recovered(*cells: tuple[int, int, float]) -> Recovered:
    """Return images of (cell, count, share that is right)."""
    right = [np.arange(count) < round(share * count) for _, count, share in cells]
    return Recovered(np.concatenate([np.full(count, cell) for cell, count, _ in cells]), np.concatenate(right))


def embedded(*cells: tuple[int, int], seed: int = 0, spread: float = 1.0) -> Embedded:
    """Return images of (cell, count), spread around the mean of each cell."""
    rng = np.random.default_rng(seed)
    parts = [MEANS[cell] + spread * rng.normal(size=(count, 2)) for cell, count in cells]
    return Embedded(np.concatenate([np.full(count, cell) for cell, count in cells]), np.concatenate(parts))


ALL = [(cell, 60) for cell in range(4)]
GOOD = [(cell, 60, 0.9) for cell in range(4)]


def reasons(gate):
    return gate.table["reason"].tolist()


def test_a_generator_like_the_data_passes_everywhere():
    gate = gate_cells(CONFIG, GRID, recovered(*GOOD), recovered(*GOOD), embedded(*ALL), embedded(*ALL, seed=1))
    assert reasons(gate) == [""] * 4
    assert (gate.table["fidelity_of"] == "cell").all()
    assert gate.table.loc[0, "fidelity"] == pytest.approx(54 / 60)
    assert tuple(gate.table.loc[0, ["fidelity_low", "fidelity_high"]]) == pytest.approx(wilson(54, 60)[1:])


def test_a_cell_that_shows_something_else_fails_by_fidelity():
    shown = recovered(*GOOD[:3], (3, 60, 0.2))
    gate = gate_cells(CONFIG, GRID, shown, recovered(*GOOD), embedded(*ALL), embedded(*ALL, seed=1))
    assert reasons(gate)[:3] == [""] * 3
    assert reasons(gate)[3].startswith("fidelity 0.20 [")


def test_a_cell_that_shows_one_image_fails_by_coverage():
    made = embedded(*ALL)
    made.features[made.cells == 2] = MEANS[2]
    gate = gate_cells(CONFIG, GRID, recovered(*GOOD), recovered(*GOOD), made, embedded(*ALL, seed=1))
    assert [bool(r) for r in reasons(gate)] == [False, False, True, False]
    assert reasons(gate)[2].startswith("coverage 0.")


def test_coverage_is_the_share_of_real_balls_with_a_generated_image():
    made, train = embedded(*ALL, spread=0.7), embedded(*ALL, seed=1)
    gate = gate_cells(CONFIG, GRID, recovered(*GOOD), recovered(*GOOD), made, train)
    for cell in range(4):
        real, fake = train.features[train.cells == cell], made.features[made.cells == cell]
        radius = np.sort(cdist(real, real), axis=1)[:, 3]  # the first is the image itself
        assert gate.table.loc[cell, "coverage"] == (cdist(real, fake).min(axis=1) <= radius).mean()
    assert gate.table["coverage_real"].tolist() == [expected_coverage(60, 3)] * 4


def test_expected_coverage_is_what_draws_of_one_distribution_reach():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        real, other = rng.normal(size=(2, 30, 4))
        radius = np.sort(cdist(real, real), axis=1)[:, 3]
        found.append((cdist(real, other).min(axis=1) <= radius).mean())
    error = np.std(found) / 20
    assert np.mean(found) == pytest.approx(expected_coverage(30, 3), abs=4 * error)


def test_thresholds_are_relative_to_what_real_images_reach():
    """Half of the generated images are recovered, and so are half of the real ones: that is the judge, not the generator."""
    half = [(cell, 100, 0.5) for cell in range(4)]
    strict = CONFIG.model_copy(update={"min_fidelity": 0.9})
    arguments = embedded(*ALL), embedded(*ALL, seed=1)
    assert reasons(gate_cells(strict, GRID, recovered(*half), recovered(*half), *arguments)) == [""] * 4
    assert all(reasons(gate_cells(strict, GRID, recovered(*half), recovered(*GOOD), *arguments)))


def test_few_images_are_judged_with_their_class_and_a_small_class_with_all():
    few = [(0, 60, 0.9), (1, 19, 0.0), (2, 5, 0.0), (3, 5, 0.0)]
    counts = [(cell, count) for cell, count, _ in few]
    gate = gate_cells(CONFIG, GRID, recovered(*few), recovered(*GOOD), embedded(*counts), embedded(*ALL, seed=1))
    assert gate.table["fidelity_of"].tolist() == ["cell", "class", "all", "all"]
    assert gate.table["coverage_of"].tolist() == ["cell", "class", "all", "all"]
    assert gate.table.loc[1, "fidelity"] == pytest.approx(54 / 79)
    assert gate.table.loc[2, "fidelity"] == gate.table.loc[3, "fidelity"] == pytest.approx(54 / 89)
    assert reasons(gate)[1] == "", "nineteen images are no evidence, seventy-nine are"


def test_a_cell_without_training_images_is_covered_as_its_class_is():
    train = embedded(*ALL[:3], seed=1)
    gate = gate_cells(CONFIG, GRID, recovered(*GOOD), recovered(*GOOD), embedded(*ALL), train)
    assert gate.table["coverage_of"].tolist() == ["cell", "cell", "cell", "class"]


def test_images_that_were_asked_for_no_cell_do_not_count():
    open_ = recovered(*GOOD, (-1, 500, 0.0))
    made = embedded(*ALL)
    made = Embedded(np.append(made.cells, [-1] * 50), np.vstack([made.features, np.zeros((50, 2))]))
    gate = gate_cells(CONFIG, GRID, open_, recovered(*GOOD), made, embedded(*ALL, seed=1))
    plain = gate_cells(CONFIG, GRID, recovered(*GOOD), recovered(*GOOD), embedded(*ALL), embedded(*ALL, seed=1))
    assert gate.table.equals(plain.table)


@pytest.mark.parametrize("short", ["generated", "held-out", "training"])
def test_too_few_images_to_judge_at_all_are_refused(short):
    some = {"generated": recovered(*GOOD), "held-out": recovered(*GOOD)}
    train = embedded((0, 19)) if short == "training" else embedded(*ALL)
    some |= {short: recovered((0, 19, 1.0))} if short != "training" else {}
    with pytest.raises(AmalgamError, match=f"19 {short} images"):
        gate_cells(CONFIG, GRID, some["generated"], some["held-out"], embedded(*ALL), train)
