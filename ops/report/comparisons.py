"""The report's table of differences between models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ops.evaluate.comparisons import LEVEL, headline


def comparison_table(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return columns (split and measure) and lines (pairs) with a cell for each: difference, interval, significant or not.

    Only clean accuracy and the robust accuracy under all threats; `images_only` says if seeds could not be counted. Empty
    where there is no such stage, or a single model.
    """
    if "comparisons" not in inputs:
        return {}
    table = headline(pq.read_table(inputs["comparisons"] / "comparisons.parquet").to_pandas())
    if table.empty:
        return {}
    columns = list(dict.fromkeys(zip(table["split"], table["measure"], strict=True)))
    lines = []
    for (model, than), part in table.groupby(["model", "than"], sort=False):
        cells = {(line["split"], line["measure"]): _cell(line) for _, line in part.iterrows()}
        lines.append({"model": model, "than": than, "cells": [cells[column] for column in columns]})
    sizes = table.groupby(["split", "measure"])["n"].max()
    return {
        "columns": [{"split": split, "measure": m, "n": int(sizes[split, m])} for split, m in columns],
        "lines": lines,
        "images_only": bool((table["counted"] == "images only").any()),
    }


def _cell(line: pd.Series) -> dict[str, Any]:
    text = f"{100 * line['effect']:+.1f} [{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"
    return {"text": text, "significant": bool(line["p_holm"] <= LEVEL)}
