"""Sampling plans: how many synthetic images of each cell of class, domain and attributes, and a row for each of them.

The default is the fairness-conditioned plan of Ktena et al. (2024): y ~ p_train(y), and a ~ uniform whatever y is, so that the
correlation and the imbalance of the training data are not in the plan.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.pictures import bars
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.progress import Monitor
from ops.sample.cells import JointTable, column_of, count_cells, grid_of
from ops.sample.config import SamplingPlanConfig, Unconditional
from ops.sample.gate import Gate
from ops.sample.plan_pictures import LINES, draw_plan
from ops.sample.rows import write_null_rows, write_rows
from ops.sample.schema import EXTRAPOLATED, GENERATE, NONE, OVERSAMPLE, SEEN, UNCONDITIONAL
from ops.sample.strategies import CellErrors, allocate, check_known, factors_of, rest_of, target_shares
from ops.summary import Figure, Summary

JUDGED = [f"{share}{end}" for share in ("fidelity", "coverage") for end in ("", "_low", "_high", "_real", "_of")]
SHOWN = 60
"""Most cells that the summary lists."""


def plan_samples(
    config: SamplingPlanConfig,
    shards: Path,
    out: Path,
    monitor: Monitor,
    *,
    known: Mapping[str, Sequence[str]] | None = None,
    errors: CellErrors | None = None,
    gate: Gate | None = None,
    folders: Mapping[str, Path] | None = None,
) -> Summary:
    """Write `plan.parquet`, one row for each image to make, and `cells.parquet`, one for each cell.

    Cells that training never showed, though each of their values, are composed (`kind` is extrapolated). A cell that fails
    the gate has its training images repeated instead (`method` is oversample, `copy_of` their ids); if it has none, it is left
    out, and the other cells of its class get its share. The manifest is read twice, in batches: memory depends on the number
    of cells, not on that of images. An unconditional plan has one cell, of no class.

    Args:
        config: how many images, and of which cells.
        shards: the real images; only their training split is looked at.
        out: an empty folder.
        monitor: hears of progress.
        known: what the generator was conditioned on, by name (`ops.sample.evidence.known_vocabularies`); None: all.
        errors: of a classifier, for error_driven (`ops.sample.evidence.cell_errors`).
        gate: which cells the generator is trusted with (`ops.sample.evidence.judge_generator`); None: all.
        folders: where the folders of target tables are, by their name below data/.

    Raises AmalgamError for unusable manifests (see `count_cells`), for target tables that cannot be met (`fit_target`), for
    values that the generator does not know, and for a plan without any cell.
    """
    dataset = read_json(shards / "dataset.json")
    grid = grid_of(factors_of(config.strategy, folders or {}), dataset)
    for given in (errors, gate):
        if given is not None and given.grid != grid:
            raise ValueError(f"cells of {', '.join(given.grid.factors)} instead of {', '.join(grid.factors)}")
    table = count_cells(shards / "manifest.parquet", dataset, grid, monitor)
    if isinstance(config.strategy, Unconditional):
        return _plan_unconditional(config, table, dataset, out, monitor)
    shares = target_shares(config.strategy, table, folders or {}, errors)
    if known is not None:
        check_known(table, shares, known)
    count = round(config.multiple * int(table.images.sum()))
    cells = plan_cells(table, shares, count, gate)
    write_rows(cells, table, rest_of(config.strategy), shards, dataset, out / "plan.parquet", config.seed, monitor)
    _write_cells(cells, out)
    write_json(out / "dataset.json", dataset)
    draw_plan(cells, grid, dataset, out / "pictures" / "plan.png")
    monitor.note(f"{count} images planned")
    failed = int((cells["reason"] != "").sum())
    if failed:
        monitor.note(f"{failed} of {len(cells)} cells fail the gate: training images are repeated, or cells left out")
    return _summary(config, cells, grid.factors, dataset, count)


def _plan_unconditional(
    config: SamplingPlanConfig, table: JointTable, dataset: Mapping[str, Any], out: Path, monitor: Monitor
) -> Summary:
    """Write a plan whose rows ask for nothing: how often each class comes is the generator's own leaning."""
    real = int(table.images.sum())
    count = round(config.multiple * real)
    write_null_rows(count, dataset, out / "plan.parquet", monitor)
    planned = {"real": real, "weight": table.weights.sum(), "target": 1.0, "planned": count}
    cell = pd.DataFrame({"place": -1, "label": pd.Series([None], dtype="str"), **planned})
    _write_cells(cell.assign(kind=UNCONDITIONAL, method=GENERATE, **_unjudged(1).loc[0]), out)
    write_json(out / "dataset.json", dataset)
    title = f"training images by class; {count} images are planned, of no class"
    most = np.sort(np.argsort(-table.images, kind="stable")[:LINES])
    names = [dataset["classes"][i] for i in most]
    bars({"training": table.images[most].tolist()}, names, out / "pictures" / "plan.png", title, "images")
    monitor.note(f"{count} images planned without a condition; the filter's scorer labels them")
    line: dict[str, Figure] = {"label": "no condition", "training images": real, "planned": count}
    return Summary({"planned": count, "multiple": config.multiple, "strategy": config.strategy.kind}, {"plan": [line]})


def _write_cells(cells: pd.DataFrame, out: Path) -> None:
    with replacing(out / "cells.parquet") as temporary:
        table_of_cells = pa.Table.from_pandas(cells, preserve_index=False).replace_schema_metadata()
        pq.write_table(table_of_cells, temporary, compression="zstd")


def plan_cells(table: JointTable, shares: np.ndarray, count: int, gate: Gate | None) -> pd.DataFrame:
    """Return the cells that have training images or a share, one a row, in the order of the grid.

    Columns: place (in the grid), label and the other factors (`attribute:<name>`), real (training images), weight (of these),
    target (share), planned (images, which add up to `count`), kind, method, what the gate measured (NaN without one), and
    reason.

    Raises AmalgamError if no cell is left.
    """
    grid, real = table.grid, table.images.ravel()
    places = np.flatnonzero((real > 0) | (shares.ravel() > 0))
    judged = (gate.table if gate else _unjudged(real.size)).iloc[places].reset_index(drop=True)
    wanted, failed = shares.ravel()[places] > 0, (judged["reason"] != "").to_numpy()
    refused = wanted & failed & (real[places] == 0)
    codes = np.unravel_index(places, grid.shape)
    given = _redistributed(shares.ravel()[places], refused, codes[0])
    cells = pd.DataFrame(
        {column_of(f): np.array(v)[c] for f, v, c in zip(grid.factors, grid.values, codes, strict=True)}
    )
    cells.insert(0, "place", places)
    cells["real"], cells["weight"] = real[places], table.weights.ravel()[places]
    cells["target"] = given
    cells["planned"] = allocate(given, count)
    cells["kind"] = np.where(real[places] > 0, SEEN, EXTRAPOLATED)
    cells["method"] = np.where(given == 0, NONE, np.where(failed, OVERSAMPLE, GENERATE))
    cells[JUDGED] = judged[JUDGED]
    cells["reason"] = np.where(
        refused,
        judged["reason"] + "; no training image to repeat: its share goes to other cells",
        np.where(wanted & failed, judged["reason"] + "; training images are repeated", ""),
    )
    return cells


def _unjudged(count: int) -> pd.DataFrame:
    """Return the table of a gate that measures nothing."""
    return pd.DataFrame({**{n: "" if n.endswith("_of") else np.nan for n in JUDGED}, "reason": ""}, index=range(count))


def _redistributed(shares: np.ndarray, refused: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return `shares` (C,) without those of `refused` (C,) cells, which the others of their class get in proportion.

    Where a class has no others, all other cells get them. Raises AmalgamError if there are none.
    """
    left = np.where(refused, 0.0, shares)
    if not left.any():
        raise AmalgamError(
            "the generator fails in every cell of the plan, and no training image can be repeated",
            "train the generator longer, or lower the thresholds of sampling_plan.gate",
        )
    before, after = (np.bincount(classes, weights=each) for each in (shares, left))
    scale = np.divide(before, after, out=np.zeros(len(before)), where=after > 0)
    kept = left * scale[classes]
    return kept / kept.sum()


def _summary(
    config: SamplingPlanConfig, cells: pd.DataFrame, factors: Sequence[str], dataset: Mapping[str, Any], count: int
) -> Summary:
    """Return counts, the plan by class and by value of the first other factor, and its cells."""
    by = factors[1] if len(factors) > 1 else factors[0]
    names = dataset.get("attribute_names", {}).get(by, {})
    planned = cells.pivot_table("planned", "label", column_of(by), "sum", fill_value=0) if by != "label" else None
    lines: list[dict[str, Figure]] = []
    for label in dataset["classes"]:
        mine = cells[cells["label"] == label]
        if not mine.empty:
            parts = {} if planned is None else {str(names.get(v, v)): int(n) for v, n in planned.loc[label].items()}
            lines.append(
                {
                    "label": label,
                    "training images": int(mine["real"].sum()),
                    **parts,
                    "planned": int(mine["planned"].sum()),
                }
            )
    figures: dict[str, Figure] = {"planned": count, "multiple": config.multiple, "strategy": config.strategy.kind}
    for name, chosen in (
        ("in cells never seen", cells["kind"] == EXTRAPOLATED),
        ("training images repeated", cells["method"] == OVERSAMPLE),
    ):
        figures[name] = int(cells.loc[chosen, "planned"].sum())
    shown = cells[cells["planned"] > 0].sort_values(["planned", "place"], ascending=[False, True]).head(SHOWN)
    titles = {column_of(factor): factor for factor in factors}
    columns = [*titles, "real", "planned", "kind", "method"]
    tables: dict[str, Sequence[Mapping[str, Figure]]] = {
        "plan": lines,
        "cells": shown[columns].rename(columns=titles).to_dict("records"),
    }
    gated = cells[cells["reason"] != ""]
    if not gated.empty:
        tables["gated"] = gated[[*columns, "reason"]].head(SHOWN).rename(columns=titles).to_dict("records")
    return Summary(figures, tables)
