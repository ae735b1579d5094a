"""From what the training split has of each cell to the share that each cell gets of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from ops.errors import AmalgamError
from ops.sample.cells import Grid, JointTable
from ops.sample.config import (
    AttributeBalanced,
    ClassBalanced,
    DomainBalanced,
    ErrorDriven,
    Rest,
    Strategy,
    Target,
    Unconditional,
)
from ops.sample.streaming import DOMAIN
from ops.sample.targets import fit_target, read_targets, target_factors


@dataclass(frozen=True)
class CellErrors:
    """What a classifier gets wrong in each cell of a grid."""

    grid: Grid
    images: np.ndarray
    """(K, ...) int64: held-out images."""
    wrong: np.ndarray
    """(K, ...) float64: those it has wrong; the mean over seeds."""


def factors_of(strategy: Strategy, folders: Mapping[str, Path]) -> list[str]:
    """Return what cells are made of beside the class; `folders` are those of target tables, by their name below data/."""
    if isinstance(strategy, Target):
        return target_factors(read_targets(strategy, folders))
    if isinstance(strategy, Unconditional):
        return []
    return [*([DOMAIN] if isinstance(strategy, DomainBalanced) else []), *strategy.attributes]


def rest_of(strategy: Strategy) -> Rest:
    """Return where the factors of a row come from that no cell is made of: an image of the class, or of the cell.

    Where values are balanced inside a class, all else is made independent of them; else it stays as in the data.
    """
    if isinstance(strategy, AttributeBalanced | DomainBalanced):
        return strategy.rest
    return "class" if isinstance(strategy, ErrorDriven) and strategy.base == "attribute_balanced" else "cell"


def target_shares(
    strategy: Strategy, table: JointTable, folders: Mapping[str, Path], errors: CellErrors | None = None
) -> np.ndarray:
    """Return the share of each cell (K, ...) float64 of the plan; they add up to 1.

    Only values that the training split shows get a share; for a target table that asks for another, see `fit_target`.

    Raises AmalgamError for tables that contradict each other or the data, and for error_driven without errors.
    """
    if isinstance(strategy, Target):
        return fit_target(strategy, read_targets(strategy, folders), table)
    if isinstance(strategy, ErrorDriven):
        if errors is None:
            raise AmalgamError(
                "sampling_plan.strategy is error_driven, but there are no errors of a classifier",
                "train the recipe sampling_plan.strategy.scorer, or choose another strategy",
            )
        base = balanced_inside_classes(table) if strategy.base == "attribute_balanced" else as_in_data(table)
        return base * error_factors(strategy, base, errors)
    if isinstance(strategy, ClassBalanced):
        return class_balanced(table)
    if isinstance(strategy, AttributeBalanced | DomainBalanced):
        return balanced_inside_classes(table)
    return as_in_data(table)


def as_in_data(table: JointTable) -> np.ndarray:
    """Return p_train(cell)."""
    return table.images / table.images.sum()


def class_balanced(table: JointTable) -> np.ndarray:
    """Return p_train(cell | y) / K, for the K classes that occur."""
    of_class = _of_class(table.images)
    inside = np.divide(table.images, of_class, out=np.zeros(table.images.shape), where=of_class > 0)
    return inside / inside.sum()


def balanced_inside_classes(table: JointTable) -> np.ndarray:
    """Return p_train(y) times the uniform share of all combinations of values that occur (Ktena et al. 2024).

    A combination that the class never showed has as much as the others: it is composed of values that were learnt.
    """
    seen = table.seen
    uniform = np.divide(seen, _of_class(seen), out=np.zeros(seen.shape), where=seen)
    return uniform * _of_class(table.images) / table.images.sum()


def error_factors(config: ErrorDriven, base: np.ndarray, errors: CellErrors) -> np.ndarray:
    """Return the factor of each cell (K, ...) in [floor, cap], with which the shares `base` (K, ...) still add up to 1.

    f_c = clip(s e_c, floor, cap) for one s, where e_c is the cell's error rate, shrunk towards its class's, and that towards
    the mean of all, by the same pseudo-count m: e_c = (wrong_c + m e_y) / (n_c + m). So few images move a share little, and
    no cell gets nothing because it happened to be right. Ours; no paper proposes it.

    Raises AmalgamError if no held-out image is in any cell.
    """
    if not errors.images.any():
        raise AmalgamError(
            f"no image of the split {config.split} is in any cell of the plan", "choose sampling_plan.strategy.split"
        )
    m = config.pseudo_count
    mean = errors.wrong.sum() / errors.images.sum()
    of_class = (_of_class(errors.wrong) + m * mean) / (_of_class(errors.images) + m)
    rate = (errors.wrong + m * of_class) / (errors.images + m)
    if mean == 0:  # nothing is wrong anywhere
        return np.ones(base.shape)
    rate = rate / (base * rate).sum()

    def surplus(log_scale: float) -> float:
        return float((base * np.clip(np.exp(log_scale) * rate, config.floor, config.cap)).sum() - 1)

    planned = rate[base > 0]
    low, high = np.log(config.floor / planned.max()), np.log(config.cap / planned.min())  # all at the floor, at the cap
    if not surplus(low) < 0 < surplus(high):  # floor or cap is 1, which leaves no room
        return np.ones(base.shape)
    scale = brentq(surplus, low, high, xtol=1e-12)
    return np.asarray(np.clip(np.exp(scale) * rate, config.floor, config.cap))


def allocate(shares: np.ndarray, count: int) -> np.ndarray:
    """Return whole numbers (K,) that add up to `count`, each within 1 of shares * count (largest remainders).

    `shares` (K,) are non-negative and add up to 1.
    """
    exact = shares * count
    whole = np.floor(exact).astype(np.int64)
    rest = count - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole


def _of_class(values: np.ndarray) -> np.ndarray:
    """Return the sums (K, 1, ...) over all cells of each class."""
    return values.sum(axis=tuple(range(1, values.ndim)), keepdims=True)


def check_known(table: JointTable, shares: np.ndarray, known: Mapping[str, Sequence[str]]) -> None:
    """Raise AmalgamError if the plan asks for what a generator with the vocabularies `known` was never told.

    `known` has the values of every conditioning by name: label, domain and attributes (see
    `ops.sample.evidence.known_vocabularies`). Factors that no cell is made of are taken from training images.
    """
    planned = {
        factor: {value for value, share in zip(values, shares.sum(axis=_but(axis, shares.ndim)), strict=True) if share}
        for axis, (factor, values) in enumerate(zip(table.grid.factors, table.grid.values, strict=True))
    }
    for factor in table.grid.factors:
        if factor not in known:
            raise AmalgamError(
                f"the generator is not conditioned on {factor}: it cannot be asked for any of its values",
                f"plan with {', '.join(known)}, or train the generator again on this dataset",
            )
    for factor, values in known.items():
        wanted = planned.get(factor, table.occurring.get(factor))
        if wanted is None:
            raise AmalgamError(
                f"the generator is conditioned on {factor}, which the dataset has not",
                "train the generator on this dataset: python -m pipelines run diffusion",
            )
        never = sorted(wanted - set(values))
        if never:
            raise AmalgamError(
                f"the generator was never conditioned on {factor} {', '.join(map(repr, never))}",
                f"plan with one of: {', '.join(values)}; or train the generator on images that have it",
            )


def _but(axis: int, count: int) -> tuple[int, ...]:
    return tuple(other for other in range(count) if other != axis)
