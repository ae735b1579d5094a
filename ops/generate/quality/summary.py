"""What the quality report says in a few figures."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ops.generate.quality.checks import REAL
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.groups import Row
from ops.generate.quality.utility import METRIC
from ops.summary import Figure, Summary

NO_COUNTS = (
    "Captions of this dataset have no numbers, so that it is not measured whether as many things are shown as were asked "
    "for. A dataset whose captions have some names the attribute in quality.count_attribute."
)


def quality_summary(config: QualityConfig, rows: Sequence[Row]) -> Summary:
    """Return the figures and tables of the first held-out split, `real` first.

    The figures are about usefulness and what was asked for: a distance is small for a source that repeats its training
    images, too.
    """
    frame = pd.DataFrame(rows)
    split = next(s for s in frame["split"] if s != "train")
    mine = frame[(frame["split"] == split) & (frame["group"] == "all")]
    models = list(dict.fromkeys([REAL, *mine["model"]]))
    found = mine.pivot(index="metric", columns="model", values="value").reindex(columns=models)
    useful = found.loc[METRIC].drop(REAL)
    figures: dict[str, Figure] = {
        "most useful source": str(useful.idxmax()),
        f"its {METRIC}": float(useful.max()),
        f"{METRIC} of real images": float(found.loc[METRIC, REAL]),
        "images compared on both sides": int(mine.loc[mine["metric"].str.startswith("Fréchet"), "n"].max()),
    }
    lines: list[dict[str, Any]] = [
        {"metric": metric, **{m: _shown(found.loc[metric, m]) for m in models}} for metric in mine["metric"].unique()
    ]
    texts = {} if config.count_attribute else {"numbers in captions": NO_COUNTS}
    return Summary(figures, {f"quality against {split}": lines}, texts)


def _shown(value: float) -> Figure:
    return "not measured" if pd.isna(value) else round(float(value), 4)
