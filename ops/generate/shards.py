"""Synthetic images of any source as shards, each of which can be made alone."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ops.data.hashing import decode, decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.pictures import labelled_rows, png
from ops.data.shards import finish_shard_folder, read_shard, write_shard
from ops.errors import AmalgamError
from ops.generate.oversampling import Originals, find_originals, is_copy
from ops.generate.source import Row, Source
from ops.progress import Monitor
from ops.sample.schema import OVERSAMPLED

NOTE = "All images are synthetic; the manifest says which generator made them and from which conditioning."
COPIED = "Images of the source `oversampled` are training images, repeated; their provenance names them."


def write_synthetic(
    source: Source,
    rows: Sequence[Row],
    dataset: Mapping[str, Any],
    out: Path,
    scratch: Path,
    shard_size: int,
    monitor: Monitor,
    real: Path | None = None,
) -> None:
    """Draw every row of a plan into the shard folder `out` (split `train`, source `synthetic`).

    An image follows from its row alone (see `Source.draw`), so any shard can be made alone; a shard that is finished in
    `scratch` is not made again. The manifest says what made each image. `dataset` is the plan's `dataset.json`; a note
    `synthetic` that it already has is kept. Where the row's method is oversample, the image is the training image `copy_of`
    of the shard folder `real`, byte for byte, and its source `oversampled`.

    Raises AmalgamError if there are no rows, or if an image to repeat is missing.
    """
    if not rows:
        raise AmalgamError("the plan has no rows", "plan at least one image: sampling_plan.multiple")
    records: list[dict[str, Any]] = []
    originals = find_originals(rows, real)
    (out / "train").mkdir()
    for start in range(0, len(rows), shard_size):
        part = rows[start : start + shard_size]
        name = f"train/train-{start // shard_size:06d}.tar"
        finished = scratch / Path(name).name
        if not finished.exists():
            images = _images(source, part, originals, _Within(monitor, start, len(rows)))
            samples = [
                (f"{row['index']:08d}", image, {"id": _identity(row), "label": row["label"]})
                for row, image in zip(part, images, strict=True)
            ]
            write_shard(finished, samples)
        shutil.copyfile(finished, out / name)
        records += _records(source, part, name, finished)
        monitor.progress(start + len(part), len(rows), "image")
    notes = {"synthetic": NOTE, **({"oversampled": COPIED} if originals else {}), **dataset["notes"]}
    described = {**dataset, "notes": notes}
    finish_shard_folder(out, pa.Table.from_pylist(records, MANIFEST_SCHEMA), described)
    _picture(rows, out, described)


@dataclass(frozen=True)
class _Within:
    """Passes on the progress of a part as that of the whole."""

    monitor: Monitor
    done: int
    total: int

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        self.monitor.progress(self.done + done, self.total, unit, **figures)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.monitor.metrics(step, values)

    def note(self, message: str) -> None:
        self.monitor.note(message)


def _images(source: Source, rows: Sequence[Row], originals: Originals | None, monitor: Monitor) -> list[bytes]:
    """Return the PNG bytes of each row's image: drawn, or a training image's own."""
    drawn, copied = ([row for row in rows if is_copy(row) == kind] for kind in (False, True))
    made = iter([png(Image.fromarray(image)) for image in source.draw(drawn, monitor)] if drawn else [])
    repeated = iter(originals.read(copied) if originals else [])
    return [next(repeated if is_copy(row) else made) for row in rows]


def _identity(row: Row) -> str:
    return f"synthetic-{row['index']:08d}"


def _records(source: Source, rows: Sequence[Row], shard: str, path: Path) -> list[dict[str, Any]]:
    """Return the manifest rows of a finished shard."""
    data = dict(read_shard(path))
    keys = [f"{row['index']:08d}" for row in rows]
    hashes = phash(np.stack([decode_grey(data[key]) for key in keys]))
    side = decode(data[keys[0]]).shape[0]
    return [
        {
            **{name: row[name] for name in ("label", "domain", "name", "caption", "concept")},
            "attributes": sorted(row["attributes"].items()),
            "id": _identity(row),
            "shard": shard,
            "key": key,
            "split": "train",
            "source": OVERSAMPLED if is_copy(row) else "synthetic",
            "provenance": json.dumps(_provenance(source, row), sort_keys=True),
            "sha256": hashlib.sha256(data[key]).hexdigest(),
            "phash": f"{value:016x}",
            "width": side,
            "height": side,
            "weight": 1.0,
        }
        for row, key, value in zip(rows, keys, hashes, strict=True)
    ]


def _provenance(source: Source, row: Row) -> dict[str, Any]:
    """Return what made the image of a row."""
    if is_copy(row):
        return {"copy_of": row["copy_of"]}
    return {"generator": source.identity, "sampler": source.sampler, "seed": [source.seed, row["index"]]}


def _picture(rows: Sequence[Row], out: Path, dataset: Mapping[str, Any]) -> None:
    """Save synthetic images by value of the sensitive attribute, from the first shard."""
    group = dataset["groups"]
    data = dict(read_shard(out / "train" / "train-000000.tar"))
    names = dataset.get("attribute_names", {}).get(group, {})
    lines: dict[str, list[np.ndarray]] = {str(v): [] for v in dataset["attributes"].get(group, [])}
    for row in rows:
        key, value = f"{row['index']:08d}", row["attributes"].get(group, "")
        if key in data and value in lines:
            lines[value].append(decode(data[key]))
    shown = {str(names.get(value, value)): np.stack(images) for value, images in lines.items() if images}
    if shown:
        labelled_rows(shown, out / "pictures" / "synthetic.png", f"synthetic images by {group}")
