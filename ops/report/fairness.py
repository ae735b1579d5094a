"""The report's section on fairness: worst groups and gaps in and out of distribution, who differs, who was too small."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ops.evaluate.comparisons import LEVEL
from ops.evaluate.fairness.names import (
    ACCURACY,
    COMPARABLE,
    EVERYONE,
    IN,
    ODDS,
    OUT,
    PARITY,
    SCALED,
    axis_of,
    gap,
    names_of,
    worst_group,
)
from ops.evaluate.fairness.summary import cell, left_out_lines, worst_cell
from ops.evaluate.measurements import read_measurements

Table = dict[str, Any]


def fairness_section(folder: Path, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tables` (by axis), `gaps` (other measures, by part), `differences` and `left_out` of the folder `fairness`.

    Seeds are averaged. Other measures and differences are along the first axis; all of them are in the folder.
    """
    rows = read_measurements(folder)
    names, parts = names_of(dataset), [part for part in (IN, OUT) if (rows["split"] == part).any()]
    pooled = rows[rows["split"].isin(parts)]
    along = pooled[pooled["metric"].isin([ACCURACY, gap(ACCURACY)]) & (pooled["group"] != EVERYONE)]
    axes = list(dict.fromkeys(along["group"].map(axis_of)))
    small = pq.read_table(folder / "left_out.parquet").to_pylist()
    lines = pq.read_table(folder / "differences.parquet").to_pandas()
    return {
        "tables": [_accuracy(pooled, axis, parts, names) for axis in axes],
        "gaps": [_gaps(pooled[pooled["split"] == part], axis, part) for axis in axes[:1] for part in parts],
        "differences": _differences(lines[lines["axis"].isin([EVERYONE, *axes[:1]])]),
        "left_out": left_out_lines(small, names) if small else [],
    }


def _accuracy(rows: pd.DataFrame, axis: str, parts: list[str], names: Mapping[str, Mapping[str, str]]) -> Table:
    """Return accuracy, worst group and gap in each part, a line for each model."""
    lines = []
    for model, mine in rows.groupby("model"):
        cells = []
        for part in parts:
            here = mine[mine["split"] == part]
            along = here[here["group"].map(axis_of) == axis]
            cells += [
                cell(here[(here["metric"] == ACCURACY) & (here["group"] == EVERYONE)]),
                worst_cell(along[along["metric"] == worst_group(ACCURACY)], names),
                cell(along[along["metric"] == gap(ACCURACY)]),
            ]
        lines.append({"model": model, "cells": cells})
    return {"axis": axis.replace("+", " and "), "parts": parts, "lines": lines}


def _gaps(rows: pd.DataFrame, axis: str, part: str) -> Table:
    """Return the gaps in all other measures along an axis, a line for each model."""
    along = rows[rows["group"] == axis]
    wanted = {gap(metric): metric for metric in COMPARABLE if metric not in (ACCURACY, SCALED)}
    wanted |= {ODDS: ODDS, PARITY: PARITY}
    metrics = [metric for metric in wanted if (along["metric"] == metric).any()]
    lines = [
        {"model": model, "cells": [cell(mine[mine["metric"] == metric]) for metric in metrics]}
        for model, mine in along.groupby("model")
    ]
    return {"axis": axis, "part": part, "columns": [wanted[metric] for metric in metrics], "lines": lines}


def _differences(table: pd.DataFrame) -> Table:
    """Return columns (part and measure) and lines (pairs of models); empty where there is a single model."""
    if table.empty:
        return {}
    columns = list(dict.fromkeys(zip(table["split"], table["measure"], strict=True)))
    lines = []
    for (model, than), mine in table.groupby(["model", "than"], sort=False):
        cells = {
            (line["split"], line["measure"]): {
                "text": f"{100 * line['effect']:+.1f} [{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]",
                "significant": bool(line["p_holm"] <= LEVEL),
            }
            for _, line in mine.iterrows()
        }
        lines.append({"model": model, "than": than, "cells": [cells[column] for column in columns]})
    return {
        "columns": [{"split": split, "measure": measure} for split, measure in columns],
        "lines": lines,
        "images_only": bool((table["counted"] == "images only").any()),
    }
