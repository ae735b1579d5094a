"""What is fit to learn from: quality filters, deduplication across splits, captions (Imagen 3, section 2)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.captions import caption_of, without_personal_data
from ops.data.config import UNLABELLED, CuratedManifestConfig
from ops.data.hashing import clusters, decode, similar_pairs
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.pictures import bars
from ops.data.shards import read_shard
from ops.files import read_json, replacing, write_json
from ops.progress import Monitor
from ops.summary import Summary

REMOVED_SCHEMA = pa.schema([("id", pa.string()), ("split", pa.string()), ("reason", pa.string())])
EVALUATION = ("validation", "test", "shift", "shift_unseen")
"""Splits of which the training split must hold no copy. `near` and `shift_seen` are near-duplicates by design."""
TOLD = ("train", *EVALUATION, "near", "shift_seen")
"""Splits of which the unlabelled images must hold no copy: what a generator learns may not come from evaluation, and of two
training images that are the same the one with a label says more."""


def curate_manifest(config: CuratedManifestConfig, manifest: Path, raw: Path, out: Path, monitor: Monitor) -> Summary:
    """Write the manifest without unfit rows, with captions and sampling weights; removed rows are listed with reasons.

    1. Blank and near-constant images are removed (`low contrast`, `low entropy`).
    2. Images of one split that copy an evaluation image are removed from training (`duplicate of <id>`), and unlabelled
       images that copy any labelled one.
    3. Near-duplicates inside the training split stay, weighted 1 over the size of their cluster, as Imagen 3
       down-weights similar images rather than deleting them; and so do those inside the split `unlabelled`.
    4. Captions come from templates; personal data in them is removed and counted. An unlabelled image has the caption that
       it came with, which may be empty: templates name the class.
    """
    table = read_manifest(manifest)
    dataset = read_json(manifest / "dataset.json")
    thumbs, contrast, entropy = _measure(table, raw, monitor)
    reasons = pd.Series("", index=table.index)
    reasons[entropy < config.min_entropy] = "low entropy"
    reasons[contrast < config.min_contrast] = "low contrast"
    pairs = _duplicates(config, table, thumbs)
    _mark_leaks(table, pairs, reasons)
    table["weight"] = _weights(table, pairs, reasons)
    table["caption"], personal = _captions(config, table, dataset)
    removed = table.assign(reason=reasons)[reasons != ""][["id", "split", "reason"]]
    kept = table[reasons == ""]
    for name, frame, schema in (("manifest", kept, MANIFEST_SCHEMA), ("removed", removed, REMOVED_SCHEMA)):
        with replacing(out / f"{name}.parquet") as temporary:
            pq.write_table(
                pa.Table.from_pandas(frame, schema=schema, preserve_index=False), temporary, compression="zstd"
            )
    write_json(out / "dataset.json", {**dataset, "min_class_images": config.min_class_images})
    _picture(kept, dataset, out)
    counts = removed["reason"].str.replace(r" of .*", "", regex=True).value_counts().sort_index()
    monitor.note(f"{len(kept)} images kept, {len(removed)} removed")
    figures: dict[str, int | float | str] = {
        "kept": len(kept),
        "removed": len(removed),
        "near-duplicate pairs in training": int(_inside(table, pairs, "train").sum()),
        "captions cleaned of personal data": personal,
    }
    return Summary(figures, {"removed": [{"reason": str(r), "images": int(n)} for r, n in counts.items()]})


def _measure(table: pd.DataFrame, raw: Path, monitor: Monitor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return 8x8 colour thumbnails (N, 8, 8, 3) float32 in [0, 1], contrast (N,) and entropy in bits (N,)."""
    place = {(s, k): i for i, (s, k) in enumerate(zip(table["shard"], table["key"], strict=True))}
    thumbs = np.zeros((len(table), 8, 8, 3), np.float32)
    contrast, entropy = np.zeros(len(table)), np.zeros(len(table))
    shards = sorted(set(table["shard"]))
    for done, shard in enumerate(shards, start=1):
        found = [(place[shard, key], decode(data)) for key, data in read_shard(raw / shard) if (shard, key) in place]
        rows = np.array([row for row, _ in found])
        images = np.stack([image for _, image in found]).astype(np.float32) / 255
        side = images.shape[1] // 8 * 8
        blocks = images[:, :side, :side].reshape(len(images), 8, side // 8, 8, side // 8, 3)
        thumbs[rows] = blocks.mean(axis=(2, 4))
        contrast[rows] = images.std(axis=(1, 2, 3))
        entropy[rows] = grey_entropy(images.mean(axis=3))
        monitor.progress(done, len(shards), "shard")
    return thumbs, contrast, entropy


def grey_entropy(grey: np.ndarray) -> np.ndarray:
    """Return the entropy in bits (N,) of the 32-bin histograms of grey images (N, H, W) in [0, 1]."""
    bins = np.minimum((grey * 32).astype(np.int64), 31).reshape(len(grey), -1)
    offset = np.arange(len(grey))[:, None] * 32
    share = np.bincount((bins + offset).ravel(), minlength=32 * len(grey)).reshape(len(grey), 32) / bins.shape[1]
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)


def _duplicates(config: CuratedManifestConfig, table: pd.DataFrame, thumbs: np.ndarray) -> np.ndarray:
    """Return the pairs (M, 2) of rows that are the same picture.

    A perceptual hash is blind to colour, and drawings that differ only in skin tone share it: a pair must be close in
    the colours of an 8x8 thumbnail as well.
    """
    hashes = np.array([int(h, 16) for h in table["phash"]], np.uint64)
    pairs = similar_pairs(hashes, config.duplicate_distance)
    error = ((thumbs[pairs[:, 0]] - thumbs[pairs[:, 1]]) ** 2).mean(axis=(1, 2, 3))
    return pairs[error <= config.duplicate_error]


def _mark_leaks(table: pd.DataFrame, pairs: np.ndarray, reasons: pd.Series) -> None:
    """Give each training row that copies an evaluation row its reason, and each unlabelled row that copies a labelled one."""
    split, ids = table["split"].to_numpy(), table["id"].to_numpy()
    forbidden = {"train": EVALUATION, UNLABELLED: TOLD}
    for one, other in np.concatenate([pairs, pairs[:, ::-1]]):
        if split[other] in forbidden.get(split[one], ()) and not reasons.iloc[one]:
            reasons.iloc[one] = f"duplicate of {ids[other]} ({split[other]})"


def _inside(table: pd.DataFrame, pairs: np.ndarray, split: str) -> np.ndarray:
    """Say for each pair whether both are rows of `split`."""
    mine = (table["split"] == split).to_numpy()
    return mine[pairs[:, 0]] & mine[pairs[:, 1]]


def _weights(table: pd.DataFrame, pairs: np.ndarray, reasons: pd.Series) -> np.ndarray:
    """Return 1 over the size of each row's cluster of near-duplicates in its split, training or unlabelled; 1 elsewhere."""
    kept = (reasons == "").to_numpy()
    inside = _inside(table, pairs, "train") | _inside(table, pairs, UNLABELLED)
    mine = pairs[inside & kept[pairs[:, 0]] & kept[pairs[:, 1]]]
    number = clusters(mine, len(table))
    return (1 / np.bincount(number)[number]).astype(np.float32)


def _captions(config: CuratedManifestConfig, table: pd.DataFrame, dataset: dict[str, Any]) -> tuple[list[str], int]:
    """Return a caption for each row, and how many had personal data in them."""
    cleaned = [
        without_personal_data(
            (name or "")
            if label is None
            else caption_of(name, label, domain, attributes, dataset, config.seed, identity)
        )
        for name, label, domain, attributes, identity in zip(
            table["name"], table["label"], table["domain"], table["attributes"], table["id"], strict=True
        )
    ]
    return [caption for caption, _ in cleaned], sum(personal for _, personal in cleaned)


def _picture(kept: pd.DataFrame, dataset: dict[str, Any], out: Path) -> None:
    """Save a bar chart of the training and test images by group."""
    group = dataset["groups"]
    values = dataset["attributes"].get(group)
    if not values:
        return
    counts = (
        kept.groupby(["split", f"attribute:{group}"]).size().unstack(fill_value=0).reindex(columns=values, fill_value=0)
    )
    names = [dataset.get("attribute_names", {}).get(group, {}).get(v, v) for v in values]
    chosen = {s: counts.loc[s].tolist() for s in ("train", "validation", "test") if s in counts.index}
    bars(chosen, names, out / "pictures" / "groups.png", f"images by {group}", "images")
