"""The report's section on distribution shift: accuracy by domain, and under other class priors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ops.evaluate.measurements import read_measurements
from ops.evaluate.shift.names import ACCURACY, EM, KNOWN, PLAIN, SAME_MIX, SOURCE, single_first

VARIANTS = {PLAIN: "as it is", EM: "priors estimated", KNOWN: "priors known"}


def shift_tables(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return `domains`, a table for each split or set, and `priors`, one table; seeds averaged.

    Empty where there is no such stage. A table has `name`, `columns` and `lines` of `model` and `cells`.
    """
    if "shift" not in inputs:
        return {}
    rows = read_measurements(inputs["shift"])
    priors = pd.read_parquet(inputs["shift"] / "priors.parquet").drop_duplicates("prior")
    pairs = [(p, f) for p, f in zip(priors["prior"], priors["family"], strict=True) if p != SOURCE]
    splits = dict.fromkeys(rows.loc[rows["metric"] == ACCURACY, "split"])
    domains = [_domains(rows[rows["split"] == split], split) for split in splits]
    return {"domains": domains, "priors": _priors(rows, single_first(pairs))}


def _domains(rows: pd.DataFrame, split: str) -> dict[str, Any]:
    """Return accuracy by domain, and what is lost against images in distribution for the same class mix."""
    found = rows[rows["metric"] == ACCURACY]
    groups = ["all", *dict.fromkeys(g for g in found["group"] if g.startswith("domain="))]
    drops = rows[(rows["group"] == "all") & rows["metric"].str.endswith(f"({SAME_MIX})")]
    lines = []
    for model, mine in found.groupby("model"):
        cells = [_cell(mine[mine["group"] == group]) for group in groups]
        lost = drops[drops["model"] == model]
        lines.append({"model": model, "cells": [*cells, *([_cell(lost, "+")] if len(drops) else [])]})
    sizes = found.groupby("group")["n"].max()
    columns = [{"name": group.removeprefix("domain="), "n": int(sizes[group])} for group in groups]
    columns += [{"name": metric, "n": int(n)} for metric, n in drops.groupby("metric")["n"].max().items()]
    return {"name": split, "columns": columns, "lines": lines}


def _priors(rows: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    """Return accuracy under the priors `names`: three lines for each model."""
    found = rows[rows["metric"].isin(VARIANTS)]
    lines = [
        {
            "model": model,
            "variant": variant,
            "cells": [_cell(mine[(mine["metric"] == metric) & (mine["group"] == f"prior={n}")]) for n in names],
        }
        for model, mine in found.groupby("model")
        for metric, variant in VARIANTS.items()
    ]
    return {"name": str(found["split"].iloc[0]), "n": int(found["n"].max()), "columns": names, "lines": lines}


def _cell(rows: pd.DataFrame, sign: str = "") -> str:
    """Return `0.71 [0.66, 0.75]` from the rows of the seeds, signed if `sign` is +; a dash where there are none."""
    if rows.empty:
        return "–"
    value, low, high = (format(rows[name].mean(), f"{sign}.2f") for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
