"""What a model card says in numbers, and what it warns of."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ops.attack.attacks import published

DETAIL = re.compile(r"accuracy after |accuracy under ")
"""Metrics that go into the measurements but not into a card: single attacks, single corruptions."""


@dataclass(frozen=True)
class Figure:
    """One measurement, seeds averaged."""

    stage: str
    split: str
    group: str
    metric: str
    value: float
    low: float
    """Mean of the seeds' 95 % intervals, like `high`."""
    high: float
    n: int
    by_seed: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        return asdict(self) | {"by_seed": list(self.by_seed)}


def headline(rows: pd.DataFrame) -> list[Figure]:
    """Return the figures of a card from the measurement rows of one model, in their order.

    Single attacks, corruptions and groups are left out; the worst group stays, under the name of its attribute.
    """
    whole = (rows["group"] == "all") | rows["metric"].str.startswith("worst-group")
    kept = rows[whole & ~rows["metric"].str.match(DETAIL)].copy()
    kept["group"] = kept["group"].str.partition("=")[0]  # the worst group may be another one with another seed
    figures = []
    for (stage, split, group, metric), part in kept.groupby(["stage", "split", "group", "metric"], sort=False):
        part = part.sort_values("seed")
        means = {name: float(part[name].mean()) for name in ("value", "low", "high")}
        by_seed = tuple(float(v) for v in part["value"])
        figures.append(
            Figure(str(stage), str(split), str(group), str(metric), **means, n=int(part["n"].min()), by_seed=by_seed)
        )
    return figures


def caveats(figures: Sequence[Figure], rows: pd.DataFrame, signs: Sequence[str]) -> list[str]:
    """Return sentences on what makes these figures uncertain; `signs` are those of masked gradients."""
    notes = [f"Sign of masked gradients: {sign}." for sign in signs]
    attacks = sorted({m.removeprefix("accuracy after ").partition(" (")[0] for m in rows["metric"] if " after " in m})
    missing = [attack.name for attack in published("standard", "linf") if attack.name not in attacks]
    if attacks and missing:
        notes.append(
            f"Robust accuracy is under {', '.join(attacks)}. AutoAttack also has {', '.join(missing)}: stronger attacks may "
            "lower the figures."
        )
    seeds = rows["seed"].nunique()
    trainings = "One training" if seeds == 1 else f"{seeds} trainings"
    notes.append(f"{trainings} with other seeds; intervals are over images, and say nothing of other trainings.")
    smallest = min(figures, key=lambda figure: figure.n)
    notes.append(f"The smallest sample is {smallest.n} images ({smallest.metric}, {smallest.split}).")
    return notes
