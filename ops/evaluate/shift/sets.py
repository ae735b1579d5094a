"""A user's images from elsewhere as a folder of shards, with the classes of the dataset.

Three layouts are read: those of `ops.data.sources` (a table beside the images, or Parquet files that hold them), and plain
class folders, `<class>/<file>`, in which every file is an image and the domain is the name of the set.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.hashing import decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.shards import Sample, finish_shard_folder, write_shard
from ops.data.sources import QUARANTINE_SCHEMA, UNDECODABLE, as_png, open_source, reason_of
from ops.errors import AmalgamError
from ops.files import replace_folder, replacing
from ops.progress import Monitor

SHARD_SIZE = 1000
LAYOUTS = "put a table.csv (file, label, domain) beside the images, or the images in a folder for each class"


def ingest_set(name: str, source: Path, dataset: Mapping[str, Any], out: Path, monitor: Monitor) -> None:
    """Write the images of `source` that decode as a shard folder whose split is `name`; nothing if `out` is there.

    Images are resized as `raw_images` does. Files that are no images go to `quarantine.parquet`. Where an image has no
    concept, its bytes are: exact copies stay together.

    Args:
        name: of the set.
        source: the folder of raw files.
        dataset: `dataset.json` of the dataset, whose classes the labels must be (a subset is fine).
        out: the folder to make; it appears whole or not at all.
        monitor: hears of quarantined files.

    Raises:
        AmalgamError: no folder or layout, an unknown label, an id twice, or no image that decodes.
    """
    if out.exists():
        return
    temporary = out.with_name(f".{out.name}.making")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / name).mkdir(parents=True)
    writer = _Writer(name, dataset, temporary)
    for row in _open(name, source):
        writer.add(row)
    writer.finish(source)
    monitor.note(f"{name}: {len(writer.rows)} images, {len(writer.quarantine)} in quarantine")
    replace_folder(temporary, out)


def quarantined(folder: Path) -> int:
    """Return how many files of an ingested set are no images."""
    return int(pq.read_metadata(folder / "quarantine.parquet").num_rows)


def _open(name: str, source: Path) -> Iterator[dict[str, Any]]:
    """Yield one row for each file of `source`, with the bytes in `data`."""
    if not source.is_dir():
        raise AmalgamError(f"shift.sets.{name}: there is no folder {source.name}", "dvc pull, or correct the path")
    if any(source.glob("images-*.parquet")) or any((source / f"table.{end}").exists() for end in ("csv", "parquet")):
        try:
            yield from open_source(source)[1]
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            raise AmalgamError(f"shift.sets.{name}: {source.name} has no {missing}", "copy it too") from None
        except ValueError as error:  # what pandas, pyarrow and json raise for files that are none
            raise AmalgamError(
                f"shift.sets.{name}: {source.name} is damaged: {str(error)[:200]}", "export it again"
            ) from None
        return
    files = [path for path in sorted(source.glob("*/*")) if path.is_file() and not _hidden(path)]
    if not files:
        raise AmalgamError(f"shift.sets.{name}: {source.name} holds neither a table nor class folders", LAYOUTS)
    for path in files:
        file = f"{path.parent.name}/{path.name}"
        label = path.parent.name
        known = {"id": file, "file": file, "label": label, "domain": name, "name": label, "concept": file}
        yield {**known, "data": path.read_bytes(), "attributes": {}}


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.parent.name.startswith(".")


class _Writer:
    """Gathers images into shards; one shard's images are in memory."""

    def __init__(self, name: str, dataset: Mapping[str, Any], out: Path) -> None:
        self.name, self.dataset, self.out = name, dataset, out
        self.rows: list[dict[str, Any]] = []
        self.quarantine: list[dict[str, str]] = []
        self.waiting: list[Sample] = []
        self.ids: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one image, or put its file into quarantine."""
        if row["label"] not in self.dataset["classes"]:
            raise AmalgamError(
                f"shift.sets.{self.name}: {row['file']} has the unknown label {row['label']!r}",
                f"use one of: {', '.join(self.dataset['classes'])}",
            )
        if row["id"] in self.ids:
            raise AmalgamError(f"shift.sets.{self.name}: two images have the id {row['id']!r}", "give each its own")
        self.ids.add(row["id"])
        try:
            data, size = as_png(row["data"], int(self.dataset["image_size"]))
        except UNDECODABLE as error:
            self.quarantine.append({"id": row["id"], "file": row["file"], "reason": reason_of(error)})
            return
        sha256 = hashlib.sha256(data).hexdigest()
        place = {"shard": self._shard(), "key": f"{len(self.rows):08d}", "split": self.name}
        pixels = {"sha256": sha256, "width": size, "height": size}
        told = {key: row[key] for key in ("id", "label", "domain", "name")} | {"caption": row["name"]}
        concept = row["concept"] if row["concept"] and row["concept"] != row["id"] else sha256
        known = {"attributes": sorted(row["attributes"].items()), "concept": concept}
        self.rows.append({**told, **place, **pixels, **known, "source": "real", "provenance": "", "weight": 1.0})
        self.waiting.append((place["key"], data, {"id": row["id"], "label": row["label"]}))
        if len(self.waiting) == SHARD_SIZE:
            self._flush()

    def _shard(self) -> str:
        return f"{self.name}/{self.name}-{len(self.rows) // SHARD_SIZE:06d}.tar"

    def _flush(self) -> None:
        mine = self.rows[-len(self.waiting) :]
        hashes = phash(np.stack([decode_grey(data) for _, data, _ in self.waiting]))
        for row, value in zip(mine, hashes, strict=True):
            row["phash"] = f"{int(value):016x}"
        write_shard(self.out / mine[0]["shard"], self.waiting)
        self.waiting.clear()

    def finish(self, source: Path) -> None:
        """Write what is left, the manifest, `dataset.json` and the quarantine list."""
        if not self.rows:
            raise AmalgamError(f"shift.sets.{self.name}: no image in {source.name} could be read", "mend the files")
        if self.waiting:
            self._flush()
        told = {"name": self.name, "licence": "not stated", "notes": {"real": "not stated", "arranged": "not stated"}}
        known = {key: self.dataset[key] for key in ("classes", "image_size", "channels")}
        found = {"domains": sorted({row["domain"] for row in self.rows}), "attributes": _values(self.rows)}
        groups = next(iter(found["attributes"]), "label")
        table = pa.Table.from_pylist(self.rows, MANIFEST_SCHEMA)
        finish_shard_folder(self.out, table, {**told, **known, **found, "groups": groups})
        with replacing(self.out / "quarantine.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist(self.quarantine, QUARANTINE_SCHEMA), temporary, compression="zstd")


def _values(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the values that each attribute has."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row["attributes"]:
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in sorted(found.items())}
