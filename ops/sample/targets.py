"""Shares that a user asks for: tables of cells or of their sums, fitted to the training split.

Iterative proportional fitting (Deming and Stephan 1940): the fitted table has the sums that were asked for, and of all that
have, it is the nearest to the data in relative entropy; odds ratios that no table speaks of stay those of the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ops.errors import AmalgamError
from ops.sample.cells import Grid, JointTable
from ops.sample.config import Target, TargetTable
from ops.sample.streaming import LABEL

SHARE = "share"
TOLERANCE = 1e-3
"""How far shares may be from adding up, for people round them."""
ROUNDS = 10_000
REMEDY = "correct sampling_plan.strategy.tables"


@dataclass(frozen=True)
class Margin:
    """Shares of the values of one or more factors."""

    title: str
    factors: tuple[str, ...]
    shares: Mapping[tuple[str, ...], float]
    """By value of each factor; they add up to 1, and what is not there has none."""

    def on(self, grid: Grid) -> np.ndarray:
        """Return the shares as an array with the axes of `grid`, of length 1 where a factor is not this table's.

        Raises AmalgamError for a value that the grid has not.
        """
        axes = [grid.factors.index(factor) for factor in self.factors]
        shape = [len(values) if axis in axes else 1 for axis, values in enumerate(grid.values)]
        found = np.zeros(shape)
        for values, share in self.shares.items():
            place = [0] * len(shape)
            for axis, value in zip(axes, values, strict=True):
                if value not in grid.values[axis]:
                    raise AmalgamError(
                        f"{self.title} asks for {grid.factors[axis]} {value!r}, which the dataset has not",
                        f"use one of: {', '.join(grid.values[axis])}",
                    )
                place[axis] = grid.values[axis].index(value)
            found[tuple(place)] = share
        return found


def target_factors(margins: Sequence[Margin]) -> list[str]:
    """Return all factors of the tables but the class, in their order."""
    return [f for f in dict.fromkeys(f for margin in margins for f in margin.factors) if f != LABEL]


def read_targets(config: Target, folders: Mapping[str, Path]) -> list[Margin]:
    """Return the tables; `folders` has the place of each folder below data/ that one names.

    Raises AmalgamError for a table that is missing or empty, for shares that are none or do not add up to 1, for a line that
    leaves a factor open, and for a cell that is named twice.
    """
    return [
        _margin(f"table {number} ({table.file or 'rows'})", _frame(table, folders))
        for number, table in enumerate(config.tables, start=1)
    ]


def fit_target(config: Target, margins: Sequence[Margin], table: JointTable) -> np.ndarray:
    """Return the shares (K, ...) of cells that have the sums of `margins` and are nearest to the data.

    A table over all factors of the grid is the answer itself, and may name combinations that training never showed.

    Raises AmalgamError for unknown values, for values that no training image shows, for tables that disagree, and for sums
    that cannot be reached because the data have no image of some combinations.
    """
    targets = {margin.title: margin.on(table.grid) for margin in margins}
    for title, target in targets.items():
        _refuse_unseen(title, target, table)
    for one, other in combinations(targets, 2):
        _refuse_disagreement(one, targets[one], other, targets[other], table.grid)
    whole = [target for target in targets.values() if target.shape == table.grid.shape]
    if whole:
        return whole[0]
    start = np.where(table.seen, table.images + config.prior, 0.0)
    fitted = proportional_fit(start, list(targets.values()))
    for title, target in targets.items():
        _refuse_unreached(title, target, fitted, table.grid)
    return fitted / fitted.sum()


def proportional_fit(start: np.ndarray, margins: Sequence[np.ndarray], rounds: int = ROUNDS) -> np.ndarray:
    """Return `start` (K, ...) scaled until its sums are those of `margins`, or until nothing moves any more.

    A margin has the axes of `start`, of length 1 where it is summed over. Zeros stay zeros; sums that they make impossible
    are not reached, and the caller has to look.
    """
    fitted = start / start.sum()
    for _ in range(rounds):
        before = fitted
        for margin in margins:
            now = _sums(fitted, margin)
            fitted = fitted * np.divide(margin, now, out=np.zeros(margin.shape), where=now > 0)
        if np.abs(fitted - before).max() < 1e-14:
            break
    return fitted


def _sums(table: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return `table` summed over the axes along which `like` has length 1."""
    axes = tuple(axis for axis in range(table.ndim) if like.shape[axis] == 1)
    return np.asarray(table.sum(axis=axes, keepdims=True))


def _frame(table: TargetTable, folders: Mapping[str, Path]) -> pd.DataFrame:
    """Return a table with every column as text."""
    if table.file is None or table.folder is None:
        return pd.DataFrame([{key: str(value) for key, value in row.items()} for row in table.rows])
    path = folders.get(table.folder, Path(table.folder)) / Path(table.file).name
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        return pd.read_parquet(path).astype(str)
    except FileNotFoundError:
        raise AmalgamError(f"the target table {table.file} is missing", "put it there, or dvc pull") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise AmalgamError(f"the target table {table.file} cannot be read: {str(error)[:200]}", REMEDY) from None


def _margin(title: str, frame: pd.DataFrame) -> Margin:
    factors = tuple(str(column) for column in frame.columns if column != SHARE)
    if SHARE not in frame.columns or not factors or frame.empty:
        raise AmalgamError(f"{title} needs a column {SHARE}, one for each of its factors, and a line", REMEDY)
    if frame.isna().any(axis=None) or (frame == "").any(axis=None):
        raise AmalgamError(f"{title} has a line that leaves {', '.join((*factors, SHARE))} partly open", REMEDY)
    shares = pd.to_numeric(frame[SHARE], errors="coerce").to_numpy(np.float64)
    if not ((shares >= 0) & (shares <= 1)).all():
        bad = frame[SHARE][~((shares >= 0) & (shares <= 1))].iloc[0]
        raise AmalgamError(f"{title} has the share {bad!r}, which is not in [0, 1]", REMEDY)
    if abs(shares.sum() - 1) > TOLERANCE:
        raise AmalgamError(f"the shares of {title} add up to {shares.sum():.4g}, not to 1", REMEDY)
    cells = [tuple(values) for values in frame[list(factors)].itertuples(index=False)]
    twice = [cell for cell in cells if cells.count(cell) > 1]
    if twice:
        raise AmalgamError(f"{title} has {_words(factors, twice[0])} twice", REMEDY)
    return Margin(title, factors, dict(zip(cells, (shares / shares.sum()).tolist(), strict=True)))


def _words(factors: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{f}={v}" for f, v in zip(factors, values, strict=True))


def _place_words(grid: Grid, like: np.ndarray, place: Sequence[int]) -> str:
    """Return the values at `place` of a margin in words."""
    return ", ".join(
        f"{f}={v[i]}"
        for f, v, i, n in zip(grid.factors, grid.values, place, like.shape, strict=True)
        if n > 1 or len(v) == 1
    )


def _refuse_unseen(title: str, target: np.ndarray, table: JointTable) -> None:
    """Raise AmalgamError if a table asks for a value that no training image shows."""
    for axis, (factor, values) in enumerate(zip(table.grid.factors, table.grid.values, strict=True)):
        others = tuple(other for other in range(target.ndim) if other != axis)
        shares = target.sum(axis=others)
        if len(shares) != len(values):
            continue
        for value, share in zip(values, shares, strict=True):
            if share > 0 and value not in table.occurring[factor]:
                raise AmalgamError(
                    f"{title} asks for {factor} {value!r}, which no training image shows: the generator has not learnt it",
                    "leave it out, or bring images of it",
                )


def _refuse_disagreement(one: str, a: np.ndarray, other: str, b: np.ndarray, grid: Grid) -> None:
    """Raise AmalgamError if two tables say different things of what both speak of."""
    shape = [min(m, n) for m, n in zip(a.shape, b.shape, strict=True)]
    common = np.zeros(shape)
    gap = np.abs(_sums(a, common) - _sums(b, common))
    if gap.max() > TOLERANCE:
        place = np.unravel_index(int(gap.argmax()), common.shape)
        what = _place_words(grid, common, [int(i) for i in place])
        said = [float(_sums(each, common)[place]) for each in (a, b)]
        raise AmalgamError(f"{one} gives {what} the share {said[0]:.4g}, {other} {said[1]:.4g}", REMEDY)


def _refuse_unreached(title: str, target: np.ndarray, fitted: np.ndarray, grid: Grid) -> None:
    """Raise AmalgamError if a fitted table does not have the sums that were asked for."""
    reached = _sums(fitted, target)
    gap = np.abs(reached - target)
    if gap.max() > TOLERANCE:
        place = np.unravel_index(int(gap.argmax()), target.shape)
        what = _place_words(grid, target, [int(i) for i in place])
        raise AmalgamError(
            f"{title} asks for the share {target[place]:.4g} of {what}, but all tables together allow {reached[place]:.4g}: "
            "the training split has no image of some combinations",
            "set sampling_plan.strategy.prior above 0 to compose them, name them in a table of all factors, or change the "
            "shares",
        )
