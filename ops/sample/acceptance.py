"""How many of the planned images were accepted, by class, group and both: where the generator does not reach."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ops.data.manifest import read_manifest
from ops.data.pictures import save_figure
from ops.errors import AmalgamError
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row

KEPT = ""
FREE = "no condition"
"""Class or group of images that were made without one."""
MODEL = "filtered_synthetic"


def outcomes_of(synthetic: Path, filtered: Path, group: str) -> pd.DataFrame:
    """Return one row for each planned image: `class` and `group` asked for, `recognised`, and the `reason` it was dropped.

    The reason is empty for kept images; `recognised` says whether the scorer sees the class that was asked for. Class and
    group are `FREE` where none was; such images are never `recognised`. Raises AmalgamError where the filter was run on other
    images.
    """
    asked = read_manifest(synthetic)[["id", "label", f"attribute:{group}"]]
    asked = asked.rename(columns={"label": "class", f"attribute:{group}": "group"}).set_index("id").fillna(FREE)
    removed = pq.read_table(filtered / "removed.parquet").to_pandas().set_index("id")
    kept = set(read_manifest(filtered)["id"])
    if kept | set(removed.index) != set(asked.index) or kept & set(removed.index):
        raise AmalgamError(
            "filtered_synthetic was made from other images than synthetic_shards has",
            "python -m pipelines run filtered_synthetic",
        )
    seen = pseudo_labels(filtered)
    seen = pd.concat([seen, removed["pseudo"]])
    reason = removed["reason"].reindex(asked.index, fill_value=KEPT)
    return asked.assign(reason=reason, recognised=seen.reindex(asked.index) == asked["class"]).reset_index()


def pseudo_labels(filtered: Path) -> pd.Series:
    """Return what the scorer sees in the kept images, by id."""
    import json

    kept = read_manifest(filtered)
    return pd.Series([json.loads(text)["pseudo label"] for text in kept["provenance"]], index=kept["id"])


def acceptance_rows(outcomes: pd.DataFrame, dataset: str, group: str, least: int) -> list[dict[str, Any]]:
    """Return the shares that are accepted and recognised of all, of each class, group and cell, with Wilson's intervals.

    Cells of fewer than `least` planned images have no row; their counts are in the table of the summary. Only images of
    which a class was asked for can be recognised.
    """
    rows = []
    parts: list[tuple[str, pd.DataFrame]] = [("all", outcomes)]
    parts += [(f"class={name}", part) for name, part in outcomes.groupby("class")]
    parts += [(f"{group}={value}", part) for value, part in outcomes.groupby("group")]
    parts += [
        (f"class={name}, {group}={value}", part)
        for (name, value), part in outcomes.groupby(["class", "group"])
        if len(part) >= least
    ]
    for where, part in parts:
        asked = part[part["class"] != FREE]
        for metric, hits in (("accepted", part["reason"] == KEPT), ("recognised", asked["recognised"])):
            if len(hits):
                interval = wilson(int(hits.sum()), len(hits))
                rows.append(row(MODEL, dataset, "train", where, metric, interval, len(hits)))
    return rows


def acceptance_table(outcomes: pd.DataFrame, group: str) -> list[dict[str, Any]]:
    """Return for each cell how many images were planned, how many accepted, and how many dropped for each reason."""
    reasons = sorted(set(outcomes["reason"]) - {KEPT})
    return [
        {
            "class": str(name),
            group: str(value),
            "planned": len(part),
            "accepted": int((part["reason"] == KEPT).sum()),
            **{reason: int((part["reason"] == reason).sum()) for reason in reasons},
        }
        for (name, value), part in outcomes.groupby(["class", "group"])
    ]


def draw_acceptance(outcomes: pd.DataFrame, group: str, names: Mapping[str, str], path: Path) -> None:
    """Save the share accepted in each cell of class and group as a heat map, with the number planned."""
    from matplotlib.figure import Figure

    cells = outcomes.assign(kept=outcomes["reason"] == KEPT).groupby(["class", "group"])["kept"]
    share, count = cells.mean().unstack(), cells.size().unstack(fill_value=0)
    figure = Figure(figsize=(1.0 * share.shape[1] + 2.4, 0.42 * len(share) + 1.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share.to_numpy(np.float64), vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for y, x in np.ndindex(share.shape):
        value = share.iat[y, x]
        if not np.isnan(value):
            colour = "black" if value > 0.6 else "white"
            text = f"{value:.0%}\nof {count.iat[y, x]}"
            axes.text(x, y, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(share.shape[1]), [names.get(str(v), str(v)) for v in share.columns], fontsize=7, rotation=20)
    axes.set_yticks(range(len(share)), [str(name) for name in share.index], fontsize=7)
    axes.set_title(f"planned images that were accepted, by class and {group}", fontsize=9)
    figure.colorbar(image, ax=axes, format="{x:.0%}").ax.tick_params(labelsize=7)
    save_figure(figure, path)
