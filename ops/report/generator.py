"""The report's section on the generator: its lineage, its quality beside baselines, and what it must answer for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ops.evaluate.measurements import read_measurements
from ops.files import read_json

REAL = "real"
PICTURES = (
    ("diffusion", "samples", "Samples of the diffusion model, told what training images of each class are told."),
    ("generator_report", "samples-diffusion", "Its answers to the evaluation prompts, by class and group."),
    ("generator_report", "utility", "Accuracy on real images of a classifier that learnt from each source."),
    ("generator_report", "alignment", "Share of images in which a judge sees what was asked for."),
    ("generator_report", "distances", "Distances to held-out images; real images are the floor."),
    ("generator_report", "manifolds", "Precision, recall, density and coverage against held-out images."),
    ("generator_report", "groups", "By group: where the generator is worse for some."),
    (
        "responsibility",
        "closest-diffusion-pca",
        "Generated images and the training images nearest to them.",
    ),
    (
        "preference",
        "alignment-judge-scorer-ratings",
        "Elo ratings by a judge that is a classifier (a proxy for people).",
    ),
    ("preference", "appeal-judge-realism-ratings", "Elo ratings by nearness to real images (a proxy for people)."),
)


def generator_section(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return `lineage`, the table `quality` (sources by metric), `verdicts` of memorisation, and `representation`.

    Empty where the generator was not judged.
    """
    if not {"generator_report", "responsibility", "diffusion"} <= inputs.keys():
        return {}
    return {
        "lineage": read_json(inputs["diffusion"] / "generator.json")["lineage"],
        "quality": quality_table(read_measurements(inputs["generator_report"])),
        "verdicts": read_json(inputs["responsibility"] / "verdicts.json"),
        "representation": representation_table(read_measurements(inputs["responsibility"])),
    }


def quality_table(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the table of metrics (columns) by source (lines) for the first held-out split, `real` first."""
    split = next(name for name in rows["split"] if name != "train")
    mine = rows[(rows["split"] == split) & (rows["group"] == "all") & ~rows["metric"].str.contains(" gap ")]
    worst = rows[(rows["split"] == split) & rows["metric"].str.startswith("worst-group classification")]
    wanted = ("classification accuracy score", "alignment (all factors)", "Fréchet", "coverage", "precision")
    names = [
        metric for metric in dict.fromkeys(mine["metric"]) if metric.startswith(wanted) and ", class" not in metric
    ]
    columns = sorted(names, key=lambda name: next(i for i, start in enumerate(wanted) if name.startswith(start)))
    table = pd.concat([mine, worst])
    columns[1:1] = list(dict.fromkeys(worst["metric"]))
    lines = []
    for model in dict.fromkeys([REAL, *mine["model"]]):
        part = table[table["model"] == model]
        lines.append({"model": model, "cells": [_cell(part[part["metric"] == metric]) for metric in columns]})
    return {"split": split, "columns": columns, "lines": lines}


def representation_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each value of each axis what neutral prompts show: in the data, as perceived, corrected."""
    mine = rows[(rows["split"] == "neutral") & rows["metric"].str.startswith("share ")]
    kinds = ("share in the data", "share perceived", "share corrected")
    found = []
    for (model, group), part in mine.groupby(["model", "group"], sort=False):
        cells = [_cell(part[part["metric"] == kind]) for kind in kinds]
        found.append({"model": model, "group": str(group).replace("=", " "), "cells": cells})
    return found


def _cell(rows: pd.DataFrame) -> str:
    """Return `0.71 [0.66, 0.75]`, the value alone where it has no interval, a dash where there is none."""
    if rows.empty:
        return "–"
    value, low, high = (float(rows[name].iloc[0]) for name in ("value", "low", "high"))
    digits = 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}" if low == high else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
