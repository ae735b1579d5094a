"""Which synthetic images to learn from: scored, labelled and balanced by a non-robust classifier (Gowal et al. 2021).

The recipe of "Improving Robustness using Generated Data": a classifier f_NR, trained without an attack on the real
images, labels the generated ones; classes are balanced. Its followers also keep only what f_NR is most confident of.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.shards import finish_shard_folder, read_shard, write_shard
from ops.errors import AmalgamError
from ops.files import read_json, replacing
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.sample.config import FilteredSyntheticConfig
from ops.sample.duplicates import find_copies
from ops.sample.filtering_pictures import draw_confidence, draw_extremes
from ops.sample.scoring import load_scorers, score_rows
from ops.summary import Summary

REMOVED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("condition", pa.string()),
        ("label", pa.string()),
        ("pseudo", pa.string()),
        ("confidence", pa.float32()),
        ("reason", pa.string()),
        ("copy_of", pa.string()),
    ]
)
"""`condition` is the class that was asked for, `pseudo` what the scorer sees, `copy_of` the id of the image that it repeats."""
COPY = "copy of a training image"
DISAGREES, UNBALANCED, UNSURE = "scorer disagrees with the condition", "more than the balance", "low confidence"


def filter_synthetic(
    config: FilteredSyntheticConfig,
    real: Path,
    synthetic: Path,
    scorers: Mapping[str, Path],
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    diffusion: Path | None = None,
) -> Summary:
    """Write the rows of `synthetic` that `config` keeps as a shard folder, and `removed.parquet` with the others.

    Copies of training images of `real` go first (see `ops.sample.duplicates`), but for rows that a plan oversampled: these
    are training images, on purpose. `diffusion` is the folder of the generator that drew `synthetic`: where it works in the
    latents of an autoencoder, copies are also sought among reconstructions.

    `scorers` are the model folders of f_NR by name, one for each seed; their probabilities are averaged. A kept image
    has the shard, key and bytes that it had; its provenance also says condition, pseudo label, confidence (of its
    label) and scorer. One shard is in memory at a time; the scores of a shard that are in `scratch` are not computed
    again.

    Images that were made without a condition (a null label, as an unconditional plan has it) get the scorer's label.

    Raises AmalgamError if the attribute is unknown, if a scorer knows other classes, if its output is no number, if a
    condition is needed where images have none, or if a class ends empty.
    """
    dataset = read_json(synthetic / "dataset.json")
    classes: list[str] = dataset["classes"]
    table = read_manifest(synthetic).sort_values(["split", "shard", "key"]).reset_index(drop=True)
    _refuse_unconditional(config, table)
    models, identity = load_scorers(scorers, dataset, device)
    if config.within not in ("", *dataset["attributes"]):
        raise AmalgamError(
            f"the dataset has no attribute {config.within!r}",
            f"filtered_synthetic.within: empty or one of {', '.join(dataset['attributes'])}",
        )
    if config.within and (untold := int(table[f"attribute:{config.within}"].isna().sum())):
        monitor.note(f"{untold} images were made without a {config.within}: within counts them as one value")
    predicted, confidence = score_rows(config, synthetic, table, classes, models, scratch, device, monitor)
    table["condition"], table["pseudo"], table["confidence"] = table["label"], np.array(classes)[predicted], confidence
    table["label"] = table["pseudo"] if config.labels == "pseudo" else table["condition"]
    table["copy_of"] = find_copies(
        config.copies, real, synthetic, table, scorers, scratch, cache, device, monitor, diffusion
    )
    own = table["copy_of"].isna()
    table["reason"] = np.where(own, "", COPY)
    table.loc[own, "reason"] = choose(config, table[own].reset_index(drop=True), classes)
    kept = table[table["reason"] == ""]
    _copy(synthetic, kept, out, monitor)
    extended = kept.assign(provenance=_provenance(kept, identity))
    rows = pa.Table.from_pandas(extended, schema=MANIFEST_SCHEMA, preserve_index=False)
    note = f"Filtered by a classifier: labels {config.labels}, rule {config.rule}; {len(kept)} of {len(table)} kept."
    finish_shard_folder(out, rows, {**dataset, "notes": {**dataset["notes"], "filtered": note}})
    with replacing(out / "removed.parquet") as temporary:
        removed = table[table["reason"] != ""]
        listed = pa.Table.from_pandas(removed, schema=REMOVED_SCHEMA, preserve_index=False)
        pq.write_table(listed, temporary, compression="zstd")
    draw_confidence(table, classes, out / "pictures" / "confidence.png")
    draw_extremes(synthetic, table, classes, out / "pictures" / "extremes.png")
    monitor.note(f"{len(kept)} images kept, {len(table) - len(kept)} removed")
    return _summary(table, kept, dataset)


def choose(config: FilteredSyntheticConfig, table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return for each row the reason (N,) why it is dropped; empty where it is kept.

    `table` has the columns id, condition, pseudo, label, confidence and `attribute:<config.within>`. Classes are
    balanced to n = the smallest class (of the labels, after rows without agreement are gone), or to n = min(that,
    keep_share * rows / classes), which is the papers' "top k of each class" for classes of equal size. Equal
    confidence: the smaller id is kept. With `config.within`, which the papers have not, values of that attribute keep
    their shares in a class, up to rounding; a missing one is a value of its own.

    Raises AmalgamError if a class has no row, which balance would turn into no row at all.
    """
    reason = np.full(len(table), "", dtype=object)
    if config.require_agreement:
        reason[(table["pseudo"] != table["condition"]).to_numpy()] = DISAGREES
    left = table[reason == ""]
    _refuse_empty(left, table, classes)
    if config.rule == "all":
        return reason
    smallest = int(left["label"].value_counts().reindex(classes, fill_value=0).min())
    if config.rule == "balance_only":
        draw = [derive_seed(config.seed, "balance", identity) for identity in left["id"]]
        order, count, why = left.assign(draw=draw).sort_values(["draw", "id"]), smallest, UNBALANCED
    else:
        even = max(1, round(config.keep_share * len(left) / len(classes)))
        order, count, why = left.sort_values(["confidence", "id"], ascending=[False, True]), min(smallest, even), UNSURE
    if config.within:
        cells = order.groupby(["label", f"attribute:{config.within}"], dropna=False)
        place = (cells.cumcount() + 0.5) / cells["id"].transform("size")
        order = order.loc[place.sort_values(kind="stable").index]
    reason[order.index[order.groupby("label").cumcount() >= count]] = why
    return reason


def _refuse_unconditional(config: FilteredSyntheticConfig, table: pd.DataFrame) -> None:
    """Raise AmalgamError if the condition is needed, and images of `table` have none."""
    needing = {"labels: conditional": config.labels == "conditional", "require_agreement": config.require_agreement}
    free = int(table["label"].isna().sum())
    if free and any(needing.values()):
        raise AmalgamError(
            f"{free} synthetic images were made without a condition, which filtered_synthetic needs for "
            f"{' and '.join(setting for setting, needed in needing.items() if needed)}",
            "set filtered_synthetic.labels to pseudo and require_agreement to false, or choose a "
            "sampling_plan.strategy that asks for classes",
        )


def _refuse_empty(left: pd.DataFrame, table: pd.DataFrame, classes: Sequence[str]) -> None:
    """Raise AmalgamError if no row of `left`, a part of `table`, has one of the labels `classes`."""
    empty = [name for name in classes if name not in set(left["label"])]
    if empty:
        asked, seen = ((table[kind].value_counts().reindex(empty, fill_value=0)) for kind in ("condition", "pseudo"))
        counts = "; ".join(f"{name}: {asked[name]} asked for, {seen[name]} recognised" for name in empty)
        free = table["condition"].isna().any()
        first = (
            "choose a sampling_plan.strategy that asks for classes"
            if free
            else "set filtered_synthetic.labels to conditional and require_agreement to false"
        )
        raise AmalgamError(
            f"no synthetic image is left of {len(empty)} class(es) ({counts})",
            f"{first}, make more images (sampling_plan.multiple), or train generator and scorer longer",
        )


def _provenance(kept: pd.DataFrame, scorer: str) -> list[str]:
    """Return each row's provenance with what the filter knows of it, as JSON."""
    return [
        json.dumps(
            {
                **json.loads(made or "{}"),
                "condition": condition,
                "pseudo label": pseudo,
                "confidence": round(float(confidence), 4),
                "scorer": scorer,
            },
            sort_keys=True,
        )
        for made, condition, pseudo, confidence in zip(
            kept["provenance"], kept["condition"], kept["pseudo"], kept["confidence"], strict=True
        )
    ]


def _copy(synthetic: Path, kept: pd.DataFrame, out: Path, monitor: Monitor) -> None:
    """Write each shard of `synthetic` again with only its kept rows, under its name; shards without one are left out."""
    shards = list(kept.groupby("shard", sort=True))
    for done, (name, rows) in enumerate(shards, start=1):
        records = {
            key: {"id": identity, "label": label}
            for key, identity, label in zip(rows["key"], rows["id"], rows["label"], strict=True)
        }
        samples = ((k, data, records[k]) for k, data in read_shard(synthetic / str(name)) if k in records)
        write_shard(out / str(name), samples)
        monitor.progress(done, len(shards), "copied shard")


def _summary(table: pd.DataFrame, kept: pd.DataFrame, dataset: Mapping[str, Any]) -> Summary:
    """Return counts, the agreement of scorer and condition, and what each class and group lost.

    Where nothing was asked for there is no agreement, and no line of a group.
    """
    asked = table[table["condition"].notna()]
    figures: dict[str, int | float | str] = {"kept": len(kept), "removed": len(table) - len(kept)}
    if len(asked):
        agreement = float((asked["pseudo"] == asked["condition"]).mean())
        figures["agreement of scorer and condition"] = round(agreement, 4)
    if len(asked) < len(table):
        figures["made without a condition"] = len(table) - len(asked)
    figures["mean confidence of the kept"] = round(float(kept["confidence"].mean()), 4)
    reasons = table.loc[table["reason"] != "", "reason"].value_counts().sort_index()
    tables: dict[str, list[dict[str, Any]]] = {
        "removed": [{"reason": str(r), "images": int(n)} for r, n in reasons.items()],
        "by class": [
            {
                "class": name,
                "asked for": int((table["condition"] == name).sum()),
                "recognised": int((table["pseudo"] == name).sum()),
                "kept": int((kept["label"] == name).sum()),
            }
            for name in dataset["classes"]
        ],
    }
    group = f"attribute:{dataset.get('groups')}"
    if group in table and table[group].notna().any():
        tables[f"by {dataset['groups']}"] = [
            {str(dataset["groups"]): str(v), "asked for": int(n), "kept": int((kept[group] == v).sum())}
            for v, n in table[group].value_counts().sort_index().items()
        ]
    return Summary(figures, tables)
