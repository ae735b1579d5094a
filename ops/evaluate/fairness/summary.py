"""What people see first: worst group and gap in and out of distribution, who differs, who was too small."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ops.evaluate.comparisons import LEVEL
from ops.evaluate.fairness.names import ACCURACY, EVERYONE, EVERYTHING, IN, OUT, axis_of, gap, moved, shown, worst_group
from ops.summary import Summary

Names = Mapping[str, Mapping[str, str]]
NAMED = 3
"""Groups that are named in a line; of more there is the number."""


def summarise(
    rows: pd.DataFrame,
    axes: Sequence[str],
    lines: Sequence[Mapping[str, Any]],
    small: Sequence[Mapping[str, Any]],
    names: Names,
) -> Summary:
    """Return tables by axis, of differences (lines of `differences.SCHEMA`) and of what was left out; seeds averaged.

    Differences are shown of all images and along the first axis.
    """
    parts = [part for part in (IN, OUT) if (rows["split"] == part).any()]
    tables: dict[str, list[dict[str, Any]]] = {
        f"accuracy by {axis}, {part}": _lines(rows[rows["split"] == part], axis, names)
        for axis in axes
        for part in parts
    }
    if OUT in parts:
        tables |= {f"accuracy by {axis}, {OUT} less {IN}": _moved(rows, axis) for axis in axes}
    for line in lines:
        if line["axis"] in (EVERYONE, axes[0]):
            tables.setdefault(f"{line['measure']}, {line['split']}", []).append(
                {
                    "model": line["model"],
                    "than": line["than"],
                    "effect": f"{line['effect']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]",
                    "p (Holm)": f"{line['p_holm']:.3f}",
                }
            )
    excluded = [line for line in small if line["metric"] == EVERYTHING]
    if small:
        tables["left out"] = left_out_lines(small, names)
    worst = rows[(rows["metric"] == worst_group(ACCURACY)) & (rows["split"] == parts[-1])]
    means = worst[worst["group"].map(axis_of) == axes[0]].groupby("model")["value"].mean()
    best: dict[str, Any] = {}
    if len(means):
        best = {f"best worst-group accuracy {parts[-1]}": float(means.max()), "of": str(means.idxmax())}
    real = sum(line["p_holm"] <= LEVEL for line in lines)
    return Summary({**best, "significant after Holm": real, "groups left out": len(excluded)}, tables)


def _lines(rows: pd.DataFrame, axis: str, names: Names) -> list[dict[str, Any]]:
    """Return accuracy, worst group and gap of every model."""
    found = []
    for model, mine in rows.groupby("model"):
        whole = mine[(mine["metric"] == ACCURACY) & (mine["group"] == EVERYONE)]
        along = mine[mine["group"].map(axis_of) == axis]
        worst, wide = along[along["metric"] == worst_group(ACCURACY)], along[along["metric"] == gap(ACCURACY)]
        found.append(
            {
                "model": str(model),
                "accuracy": cell(whole),
                "worst group": worst_cell(worst, names),
                "gap": cell(wide),
            }
        )
    return found


def _moved(rows: pd.DataFrame, axis: str) -> list[dict[str, Any]]:
    """Return what every model gains or loses out of distribution."""
    names = {
        "accuracy": (ACCURACY, EVERYONE),
        "worst group": (worst_group(ACCURACY), axis),
        "gap": (gap(ACCURACY), axis),
    }
    found = []
    for model, mine in rows[rows["split"] == OUT].groupby("model"):
        cells = {
            name: cell(mine[(mine["metric"] == moved(metric)) & (mine["group"] == group)], "+")
            for name, (metric, group) in names.items()
        }
        found.append({"model": str(model), **cells})
    return found


def cell(rows: pd.DataFrame, sign: str = "") -> str:
    """Return `0.71 [0.66, 0.75]` from the rows of the seeds, signed if `sign` is +; a dash where there are none."""
    if rows.empty:
        return "–"
    value, low, high = (format(rows[name].mean(), f"{sign}.2f") for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def worst_cell(rows: pd.DataFrame, names: Names) -> str:
    """Return `0.42 [0.35, 0.50] dark` from the rows of the seeds; groups that are worst with other seeds are named too."""
    if rows.empty:
        return "–"
    groups = rows["group"].value_counts(sort=False).sort_values(ascending=False, kind="stable").index
    return f"{cell(rows)} {' / '.join(shown(group, names) for group in groups)}"


def left_out_lines(small: Sequence[Mapping[str, Any]], names: Names) -> list[dict[str, Any]]:
    """Return a line for each measure that some groups are left out of (classes together), with the smallest count."""
    table = pd.DataFrame(small)
    table["measure"] = [
        metric.partition(" (")[0] if " accuracy" not in metric else metric for metric in table["metric"]
    ]
    lines = []
    for (split, axis, measure), mine in table.groupby(["split", "axis", "measure"], sort=False):
        groups = [shown(group, names) for group in dict.fromkeys(mine["group"])]
        classes = mine["metric"].nunique()
        lines.append(
            {
                "split": str(split),
                "by": str(axis),
                "left out of": f"{measure}, {classes} classes" if classes > 1 else str(mine["metric"].iloc[0]),
                "groups": ", ".join(groups) if len(groups) <= NAMED else f"{len(groups)} groups",
                "fewest": int(mine["count"].min()),
                "needed": int(mine["needed"].iloc[0]),
            }
        )
    return lines
