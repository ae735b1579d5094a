"""What a model card says in numbers, and what it warns of."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ops.attack.attacks import Attack
from ops.evaluate.attack_budgets import beyond, budget_text
from ops.evaluate.fairness.names import (
    ACCURACY,
    AUROC,
    EVERYONE,
    HIGH_RISK,
    IN,
    ODDS,
    OUT,
    PARITY,
    axis_of,
    gap,
    worst_group,
)

DETAIL = re.compile(r"accuracy after |accuracy under ")
"""Metrics that go into the measurements but not into a card: single attacks, single corruptions."""
OF_GROUPS = [name(metric) for metric in (ACCURACY, AUROC, HIGH_RISK) for name in (worst_group, gap)]
"""What a card says of the groups of an attribute, in and out of distribution, beside robust accuracy; of intersections only
the first two. All of it is in the measurements of `fairness`."""


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
    worst: tuple[str, ...] = ()
    """The worst group of each seed, where the figure is of one (`tone=5`)."""

    def record(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        return asdict(self) | {"by_seed": list(self.by_seed), "worst": list(self.worst)}


def headline(rows: pd.DataFrame) -> list[Figure]:
    """Return the figures of a card from the measurement rows of one model, in their order.

    Single attacks, corruptions and groups are left out; the worst group stays, under the name of its attribute.
    """
    fair = rows["stage"] == "fairness"
    kept = pd.concat([rows[~fair & (rows["group"] == EVERYONE)], _of_groups(rows[fair])])
    kept = kept[~kept["metric"].str.match(DETAIL)]
    kept = kept.assign(axis=kept["group"].map(axis_of))  # the worst group may be another one with another seed
    figures = []
    for (stage, split, axis, metric), part in kept.groupby(["stage", "split", "axis", "metric"], sort=False):
        part = part.sort_values("seed")
        means = {name: float(part[name].mean()) for name in ("value", "low", "high")}
        figures.append(
            Figure(
                stage=str(stage),
                split=str(split),
                group=str(axis),
                metric=str(metric),
                **means,
                n=int(part["n"].min()),
                by_seed=tuple(float(v) for v in part["value"]),
                worst=tuple(part["group"]) if str(metric).startswith("worst-group") else (),
            )
        )
    return figures


def _of_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `fairness` that a card shows, those of groups first."""
    pooled = rows[rows["split"].isin([IN, OUT])]
    robust = pooled["metric"].str.fullmatch(r"worst-group robust accuracy \(.*\)|robust accuracy \(.*\) gap")
    several = pooled["group"].map(axis_of).str.contains("+", regex=False)
    of_groups = pooled["metric"].isin([*OF_GROUPS, ODDS, PARITY]) | robust
    whole = (pooled["group"] == EVERYONE) & pooled["metric"].isin([AUROC, HIGH_RISK])
    return pd.concat([pooled[of_groups & (~several | pooled["metric"].isin(OF_GROUPS[:2]))], pooled[whole]])


def caveats(
    figures: Sequence[Figure],
    rows: pd.DataFrame,
    signs: Sequence[str],
    attacks: Mapping[str, Sequence[Attack]],
    classes: int,
) -> list[str]:
    """Return sentences on what makes these figures uncertain.

    Args:
        figures: of one model.
        rows: the measurements they are from.
        signs: those of masked gradients.
        attacks: those that it met, by norm; a norm of which none are known counts as one with weak attacks.
        classes: how many the dataset has.
    """
    notes = [f"Sign of masked gradients: {sign}." for sign in signs]
    notes += _weak_attacks(rows, attacks, classes)
    seeds = rows["seed"].nunique()
    trainings = "One training" if seeds == 1 else f"{seeds} trainings"
    notes.append(f"{trainings} with other seeds; intervals are over images, and say nothing of other trainings.")
    smallest = min(figures, key=lambda figure: figure.n)
    notes.append(f"The smallest sample is {smallest.n} images ({smallest.metric}, {smallest.split}).")
    return notes


def _weak_attacks(rows: pd.DataFrame, attacks: Mapping[str, Sequence[Attack]], classes: int) -> list[str]:
    """Return a sentence for each list of attacks that does not come up to AutoAttack's, norms with the same one together."""
    met = rows["metric"].str.extract(r"^accuracy after (?P<attack>\S+) \((?P<norm>linf|l2|l1) ").dropna()
    found: dict[str, list[str]] = {}
    for norm, part in met.groupby("norm", sort=False):
        ran = attacks.get(str(norm), ())
        under = [budget_text(attack) for attack in ran] or part["attack"].unique().tolist()
        more = [budget_text(attack) for attack in beyond(ran, norm, classes)]
        if more:
            sentence = f"is under {', '.join(under)}. AutoAttack has {', '.join(more)}"
            found.setdefault(sentence, []).append(str(norm))
    return [
        f"Robust accuracy in {', '.join(norms)} {sentence}: stronger attacks may lower the figures."
        for sentence, norms in found.items()
    ]
