"""Synthetic images as others get them: marked, with their provenance in every record, and signed.

The store keeps unmarked shards for training; an export is a copy for publishing.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from ops.data.hashing import decode, decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.marked import FIELD, refuse_marked
from ops.data.pictures import png
from ops.data.shards import finish_shard_folder, read_shard, write_shard
from ops.errors import AmalgamError
from ops.files import read_json, replace_folder, write_json
from ops.generate.watermark.config import WatermarkConfig
from ops.generate.watermark.keys import key_id, read_key
from ops.generate.watermark.marking import mark, psnr
from ops.generate.watermark.signature import public_key, sign_folder
from ops.progress import Monitor
from ops.summary import Summary

SETTINGS = ".export.json"
"""Says what an unfinished export was started with."""


def export_marked(
    folder: Path, key_file: Path, out: Path, monitor: Monitor, config: WatermarkConfig | None = None
) -> Summary:
    """Copy the shard folder `folder` to `out` with marked images, and sign it; equal inputs give equal bytes.

    Every record of a shard, and the manifest, say what made the image, which key marked it and the SHA-256 of the
    unmarked file. `dataset.json` gets the entry `watermark`, on which `refuse_marked` refuses to train. The folder is
    built in `.<out>.building` beside `out`; an export that was killed goes on with the shards that are missing.

    Args:
        folder: shards of synthetic images only.
        key_file: 16 bytes or more, of which nothing but the key's identifier and public key is written.
        out: must not exist, or be empty.
        monitor: is told of progress.
        config: of the mark.

    Raises:
        AmalgamError: `out` has files, the key cannot be read, or `folder` has real or marked images.
    """
    config = config or WatermarkConfig()
    key = read_key(key_file)
    dataset, table = _open(folder)
    if out.exists() and any(out.iterdir()):
        raise AmalgamError(f"{out.name} has files already", "export to a new folder, or remove that one")
    described = {"key": key_id(key), "public_key": public_key(key), **config.model_dump(mode="json")}
    building = _building(out, {"manifest": _digest(folder / "manifest.parquet"), **described})
    shards = list(table.groupby("shard", sort=True))
    parts, least = [], np.inf
    for done, (name, rows) in enumerate(shards, start=1):
        originals = dict(read_shard(folder / str(name)))
        if not (building / str(name)).exists():
            _write_marked(building / str(name), originals, rows, key, config)
        marked = dict(read_shard(building / str(name)))
        images, others = (np.stack([decode(data[k]) for k in rows["key"]]) for data in (originals, marked))
        least = min(least, float(psnr(images, others).min()))
        parts.append(_rows(rows, marked, described["key"]))
        monitor.progress(done, len(shards), "shard")
    note = "Every image carries an invisible watermark: for publishing, not for training."
    described_dataset = {**dataset, FIELD: described, "notes": {**dataset.get("notes", {}), FIELD: note}}
    manifest = pa.Table.from_pandas(pd.concat(parts), schema=MANIFEST_SCHEMA, preserve_index=False)
    (building / SETTINGS).unlink()
    finish_shard_folder(building, manifest, described_dataset)
    sign_folder(building, key)
    replace_folder(building, out)
    figures = {"images": len(table), "shards": len(shards), "key": described["key"], "least PSNR (dB)": round(least, 2)}
    return Summary(figures)


def _open(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return `dataset.json` and manifest of a folder that may be marked."""
    table = read_manifest(folder)
    dataset = read_json(folder / "dataset.json")
    refuse_marked(dataset)
    if real := int((table["source"] != "synthetic").sum()):
        raise AmalgamError(
            f"{real} images of {folder.name} are not synthetic", "a watermark says `generated`: export synthetic shards"
        )
    return dataset, table


def _building(out: Path, settings: dict[str, Any]) -> Path:
    """Return the folder that is being built; what another export left there is removed."""
    building = out.with_name(f".{out.name}.building")
    known = building / SETTINGS
    if not known.exists() or read_json(known) != json.loads(json.dumps(settings)):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_json(known, settings)
    for left in building.rglob(".*.tmp"):  # half a file of a process that was killed
        left.unlink()
    return building


def _write_marked(
    path: Path, originals: dict[str, bytes], rows: pd.DataFrame, key: bytes, config: WatermarkConfig
) -> None:
    """Write one shard with marked images and full records."""
    missing = set(rows["key"]) - originals.keys()
    if missing:
        raise AmalgamError(
            f"{len(missing)} images of the manifest are not in the shard {path.name}", "make the shards again"
        )
    marked = mark(np.stack([decode(originals[k]) for k in rows["key"]]), key, config)
    records = [
        {"id": identity, "label": label, "source": "synthetic", "provenance": json.loads(text)}
        for identity, label, text in zip(rows["id"], rows["label"], _provenance(rows, key_id(key)), strict=True)
    ]
    samples = zip(rows["key"], (png(Image.fromarray(image)) for image in marked), records, strict=True)
    write_shard(path, samples)


def _provenance(rows: pd.DataFrame, name: str) -> list[str]:
    """Return each row's provenance with key and unmarked file, as JSON."""
    return [
        json.dumps({**json.loads(text or "{}"), FIELD: {"key": name, "unmarked sha256": digest}}, sort_keys=True)
        for text, digest in zip(rows["provenance"], rows["sha256"], strict=True)
    ]


def _rows(rows: pd.DataFrame, marked: dict[str, bytes], name: str) -> pd.DataFrame:
    """Return the manifest rows of a marked shard: hashes are those of its files."""
    data = [marked[k] for k in rows["key"]]
    hashes = phash(np.stack([decode_grey(each) for each in data]))
    return rows.assign(
        provenance=_provenance(rows, name),
        sha256=[hashlib.sha256(each).hexdigest() for each in data],
        phash=[f"{value:016x}" for value in hashes],
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
