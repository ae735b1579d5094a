"""Which cells a generator is trusted with, by what it shows of them and how much of their variety it has.

Generators inherit the imbalance of their data, so that a plan that asks for rare cells asks where they are weakest. A cell
that fails is not generated: its training images are repeated instead.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval, wilson
from ops.generate.quality.manifolds import manifolds
from ops.runtime import derive_seed
from ops.sample.cells import Grid
from ops.sample.config import GateConfig

CELL, CLASS, ALL = "cell", "class", "all"
"""Whose images were judged: the cell's, those of its class, or all."""


@dataclass(frozen=True)
class Recovered:
    """What judges saw in images."""

    cells: np.ndarray
    """(N,) int64: the place of what was asked for, or of what the image is; -1 where that is open."""
    right: np.ndarray
    """(N,) bool: every factor of the cell was recovered."""


@dataclass(frozen=True)
class Embedded:
    """Images in a feature space."""

    cells: np.ndarray
    """(N,) int64, as in `Recovered`."""
    features: np.ndarray
    """(N, D)."""


@dataclass(frozen=True)
class Share:
    """A share of images."""

    interval: Interval
    of: str
    """Whose: CELL, CLASS or ALL."""
    real: float
    """What real images reach."""


@dataclass(frozen=True)
class Gate:
    """The verdict on each cell of a grid."""

    grid: Grid
    table: pd.DataFrame
    """One row for each cell in C order. `reason` is empty where it passes. Of fidelity and coverage: `<share>`, its Wilson
    interval `<share>_low` and `<share>_high`, whose images it is of (`<share>_of`), what it would be if all were well
    (`<share>_real`)."""


def gate_cells(
    config: GateConfig, grid: Grid, generated: Recovered, held_out: Recovered, made: Embedded, train: Embedded
) -> Gate:
    """Judge each cell by conditional fidelity and by coverage.

    Fidelity is the share of generated images in which every factor of the cell is recovered, coverage the share of training
    images that have a generated one nearer than their k-th nearest training image (Naeem et al. 2020). A cell fails where
    even the upper end of the interval is below `min_fidelity` times the share that is recovered of held-out real images, or
    below `min_coverage` times `expected_coverage`: it takes evidence to distrust a cell.

    A share is of the cell's images where there are `min_images`, else of its class's, else of all.

    Args:
        config: thresholds.
        grid: the cells.
        generated: what judges saw in the generator's answers.
        held_out: what they saw in real images that they did not learn from.
        made: the answers, in the space of coverage.
        train: training images in it.

    Raises AmalgamError if there are fewer than `min_images` of one of these in all cells together.
    """
    for title, part in (("generated images", generated), ("held-out images", held_out), ("training images", train)):
        count = int((part.cells >= 0).sum())
        if count < config.min_images:
            raise AmalgamError(
                f"{count} {title} are of a cell of the plan, which are too few to judge a generator",
                "raise evaluation_prompts.images, lower sampling_plan.gate.min_images, or set sampling_plan.gate to null",
            )
    found: dict[tuple[str, int], Share] = {}
    rows = []
    for place in range(int(np.prod(grid.shape))):
        level, (mine,) = standing_for(place, grid, config.min_images, generated.cells)
        _, (real,) = standing_for(place, grid, config.min_images, held_out.cells)
        shown = wilson(int(generated.right[mine].sum()), len(mine))
        fidelity = Share(shown, level, float(held_out.right[real].mean()))
        level, (mine, real) = standing_for(place, grid, config.min_images, made.cells, train.cells)
        key = (level, {CELL: place, CLASS: _label(place, grid), ALL: 0}[level])
        if key not in found:  # cells that stand in for each other share a measurement
            found[key] = _coverage(config, made.features[mine], train.features[real], key)
        rows.append(_verdict(config, fidelity, found[key]))
    return Gate(grid, pd.DataFrame(rows))


def expected_coverage(count: int, k: int) -> float:
    """Return the coverage that `count` images are expected to have of as many others of the same distribution.

    1 - (n - 1) ... (n - k) / ((2 n - 1) ... (2 n - k)), whatever the distribution (Naeem et al. 2020).
    """
    steps = np.arange(1, k + 1)
    return float(1 - np.prod((count - steps) / (2 * count - steps)))


def standing_for(place: int, grid: Grid, least: int, *sets: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Return whose images stand for a cell, and which these are in each of `sets` (the cell of every image, (N,)).

    Its own where each set has `least`, else those of its class, else all that are of any cell.
    """
    inside = int(np.prod(grid.shape[1:]))
    for level, of in (
        (CELL, lambda cells: cells == place),
        (CLASS, lambda cells: (cells >= 0) & (cells // inside == _label(place, grid))),
    ):
        mine = [np.flatnonzero(of(cells)) for cells in sets]
        if min(map(len, mine)) >= least:
            return level, mine
    return ALL, [np.flatnonzero(cells >= 0) for cells in sets]


def _label(place: int, grid: Grid) -> int:
    """Return the class of a cell."""
    return place // int(np.prod(grid.shape[1:]))


def _coverage(config: GateConfig, made: np.ndarray, train: np.ndarray, key: tuple[str, int]) -> "Share":
    """Return the coverage of training images (N, D) by generated ones (M, D), as many of each."""
    count = min(len(made), len(train))
    rng = np.random.default_rng(derive_seed(config.seed, "coverage", *key))
    chosen, generated = (each[np.sort(rng.choice(len(each), count, replace=False))] for each in (train, made))
    covered = manifolds(chosen, generated, config.neighbours).covered
    return Share(wilson(int(covered.sum()), count), key[0], expected_coverage(count, config.neighbours))


def _verdict(config: GateConfig, fidelity: Share, coverage: Share) -> dict[str, Any]:
    """Return the row of a cell."""
    reasons = []
    found: dict[str, Any] = {}
    for name, share, least in (
        ("fidelity", fidelity, config.min_fidelity),
        ("coverage", coverage, config.min_coverage),
    ):
        value, low, high = share.interval
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
        found |= {f"{name}_of": share.of, f"{name}_real": share.real}
        if high < least * share.real:
            whose = {CELL: "", CLASS: " of the class", ALL: " of all"}[share.of]
            reasons.append(f"{name}{whose} {value:.2f} [{low:.2f}, {high:.2f}], below {least:g} x {share.real:.2f}")
    return {**found, "reason": "; ".join(reasons)}
