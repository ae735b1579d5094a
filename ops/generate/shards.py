"""Synthetic images of any source as shards, each of which any worker can make alone."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image

from ops.data.hashing import decode, decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.pictures import labelled_rows, png
from ops.data.shards import read_shard, write_shard
from ops.errors import AmalgamError
from ops.files import replacing, write_json
from ops.generate.oversampling import find_originals, is_copy
from ops.generate.source import Row, Source
from ops.launching import Launcher
from ops.progress import Monitor
from ops.sample.schema import OVERSAMPLED

NOTE = "All images are synthetic; the manifest says which generator made them and from which conditioning."
BATCH = 2**16
"""Rows of a row group of the manifest."""
COPIED = "Images of the source `oversampled` are training images, repeated; their provenance names them."


def write_synthetic(
    opened: Callable[[torch.device], Source],
    rows: Sequence[Row],
    dataset: Mapping[str, Any],
    out: Path,
    scratch: Path,
    shard_size: int,
    launcher: Launcher,
    monitor: Monitor,
    real: Path | None = None,
) -> None:
    """Draw every row of a plan into the shard folder `out` (split `train`, source `synthetic`).

    An image follows from its row alone (see `Source.draw`), so any worker can make any shard: bytes do not depend on who
    makes which, and in which order. A shard that is finished in `scratch`, which workers share, is not made again. The
    manifest says what made each image. Memory holds a shard, and the rows that `rows` holds.

    Args:
        opened: gives the source on a device; asked for each shard. Picklable where the launcher has workers.
        rows: of the plan, in its order; only slices are asked for.
        dataset: the plan's `dataset.json`; a note `synthetic` that it already has is kept.
        out: an empty folder.
        scratch: a folder that survives a kill.
        shard_size: images of a shard.
        launcher: where shards are made.
        monitor: hears of progress.
        real: the shard folder of the training images. Where a row's method is oversample, its image is the training image
            `copy_of`, byte for byte, and its source `oversampled`.

    Raises AmalgamError if there are no rows, or if an image to repeat is missing.
    """
    if not rows:
        raise AmalgamError("the plan has no rows", "plan at least one image: sampling_plan.multiple")
    job = ShardJob(opened, rows, scratch, shard_size, real)
    pieces = range(math.ceil(len(rows) / shard_size))
    done = 0
    for count in launcher.run(job, pieces, monitor):
        done += count
        monitor.progress(done, len(rows), "image")
    (out / "train").mkdir()
    for piece in pieces:
        shutil.copyfile(scratch / job.name(piece), out / "train" / job.name(piece))
    parts = [scratch / job.record(piece) for piece in pieces]
    copied = join_manifests(parts, out / "manifest.parquet")
    notes = {"synthetic": NOTE, **({"oversampled": COPIED} if copied else {}), **dataset["notes"]}
    described = {**dataset, "notes": notes}
    write_json(out / "dataset.json", described)
    _picture(rows[:shard_size], out, described)


def given(source: Source) -> Callable[[torch.device], Source]:
    """Return what gives `source` as it is, for launchers that stay in this process."""
    return lambda _: source


@dataclass(frozen=True)
class ShardJob:
    """Makes shards of a plan: a tar and its part of the manifest, each complete or not there."""

    opened: Callable[[torch.device], Source]
    rows: Sequence[Row]
    scratch: Path
    shard_size: int
    real: Path | None

    def __call__(self, piece: int, device: torch.device, monitor: Monitor) -> int:
        """Make a shard unless it is there; return its number of images."""
        start = piece * self.shard_size
        part = self.rows[start : start + self.shard_size]
        shard, record = (self.scratch / name for name in (self.name(piece), self.record(piece)))
        if not (shard.exists() and record.exists()):
            source = self.opened(device)
            images = _images(source, part, self.real, _Within(monitor, start, len(self.rows)))
            samples = [
                (f"{row['index']:08d}", image, {"id": _identity(row), "label": row["label"]})
                for row, image in zip(part, images, strict=True)
            ]
            write_shard(shard, samples)
            records = _records(source, part, f"train/{shard.name}", shard)
            with replacing(record) as temporary:
                table = pa.Table.from_pylist(records, MANIFEST_SCHEMA).sort_by("key")
                pq.write_table(table, temporary, compression="zstd")
        return len(part)

    def name(self, piece: int) -> str:
        """Return the file of a shard."""
        return f"train-{piece:06d}.tar"

    def record(self, piece: int) -> str:
        """Return the file of its part of the manifest."""
        return f"train-{piece:06d}.parquet"


def join_manifests(parts: Sequence[Path], out: Path) -> bool:
    """Write the manifests `parts`, in their order, as one; return whether any image of it is oversampled.

    Row groups have about BATCH rows, however few a part has: no more are in memory.
    """
    waiting: list[pa.Table] = []
    copied = False
    with replacing(out) as temporary, pq.ParquetWriter(temporary, MANIFEST_SCHEMA, compression="zstd") as writer:
        for place, part in enumerate(parts, start=1):
            waiting.append(pq.read_table(part))
            copied = copied or pc.any(pc.equal(waiting[-1]["source"], OVERSAMPLED)).as_py()
            if place == len(parts) or sum(table.num_rows for table in waiting) >= BATCH:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
    return copied


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


def _images(source: Source, rows: Sequence[Row], real: Path | None, monitor: Monitor) -> list[bytes]:
    """Return the PNG bytes of each row's image: drawn, or a training image's own."""
    drawn, copied = ([row for row in rows if is_copy(row) == kind] for kind in (False, True))
    originals = find_originals(copied, real)
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
