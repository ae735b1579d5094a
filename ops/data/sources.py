"""Raw files in, images that decode out.

Two layouts are read. The embedded one: `dataset.json` and Parquet files `images-*.parquet` that hold the image bytes. A
user's own: a folder of image files and a table (`table.csv` or `table.parquet`) with the columns `file`, `label` and
`domain`, optionally `caption`, `concept`, `split` and `sha256`; every other column is an attribute. `dataset.json` is
optional there (classes and so on follow from the table). Rows whose split is `unlabelled` have an empty label, and may leave
domain and attributes empty: only generators learn from them.

Images of a user's table may stay where a download put them: `root` in `dataset.json` is then the folder that `file` is
relative to, as a path from the folder that holds the table's own (from `data/`, for `data/mine`). It leads to a folder
below that one, and no file leads out of it, by `..` or by a link: who writes a table does not choose what is read. With
the column `sha256` of the files' bytes, the version of the table's folder is that of the images too.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from ops.data.config import UNLABELLED, RawImagesConfig
from ops.data.shards import Sample, write_shard
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary

INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("label", pa.string()),
        ("domain", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("split", pa.string()),
        ("name", pa.string()),
        ("concept", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
TOLD = ("id", "label", "domain", "attributes", "split", "name", "concept")
"""What the index keeps of a row; its bytes would fill the memory."""
QUARANTINE_SCHEMA = pa.schema([("id", pa.string()), ("file", pa.string()), ("reason", pa.string())])
KNOWN = {"file", "id", "label", "domain", "caption", "concept", "split", "sha256"}
UNDECODABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError)
"""What `as_png` raises for bytes that are no image, and `unchanged` for those of another one."""


def ingest_images(config: RawImagesConfig, source: Path, out: Path, monitor: Monitor) -> Summary:
    """Write every image of `source` that decodes to shards, with an index; the others to the quarantine list.

    Raises AmalgamError if there is no data, a class is unknown, or a column is missing.
    """
    dataset, rows, total = open_source(source)
    keep = min(1.0, config.limit / total) if config.limit else 1.0
    index: list[dict[str, Any]] = []
    quarantine: list[dict[str, str]] = []
    waiting: list[Sample] = []
    shard = "shards/raw-000000.tar"
    (out / "shards").mkdir()
    for number, row in enumerate(rows, start=1):
        if derive_seed(config.seed, "limit", row["id"]) / 2**63 >= keep:
            continue
        _check(row, dataset)
        try:
            data, size = as_png(unchanged(row), config.image_size)
        except UNDECODABLE as error:
            quarantine.append({"id": row["id"], "file": row["file"], "reason": reason_of(error)})
            continue
        key = f"{len(index):08d}"
        shard = f"shards/raw-{len(index) // config.shard_size:06d}.tar"
        waiting.append((key, data, {"id": row["id"], "label": row["label"]}))
        index.append(
            {
                **{name: row[name] for name in TOLD},
                "shard": shard,
                "key": key,
                "sha256": hashlib.sha256(data).hexdigest(),
                "width": size,
                "height": size,
            }
        )
        if len(waiting) == config.shard_size:
            write_shard(out / shard, waiting)
            waiting.clear()
        monitor.progress(number, total, "image")
    if waiting:
        write_shard(out / shard, waiting)
    if not index:
        raise AmalgamError(f"no image in {source.name} could be read", "look at quarantine.parquet and mend the files")
    _write(out / "images.parquet", [{**r, "attributes": sorted(r["attributes"].items())} for r in index], INDEX_SCHEMA)
    _write(out / "quarantine.parquet", quarantine, QUARANTINE_SCHEMA)
    write_json(out / "dataset.json", {**dataset, "image_size": config.image_size})
    monitor.note(f"{len(index)} images, {len(quarantine)} in quarantine")
    figures = {"images": len(index), "quarantined": len(quarantine), "classes": len(dataset["classes"])}
    return Summary(figures, {"quarantine": quarantine[:20]})


def open_source(source: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]], int]:
    """Return the description, the rows (with the bytes in `data`) and the number of images of a folder of raw data."""
    parquet = sorted(source.glob("images-*.parquet"))
    if parquet:
        dataset = read_json(source / "dataset.json")
        return dataset, _embedded_rows(parquet), sum(pq.read_metadata(path).num_rows for path in parquet)
    for path, read in ((source / "table.parquet", pd.read_parquet), (source / "table.csv", pd.read_csv)):
        if path.exists():
            table = read(path, **({"dtype": str, "keep_default_na": False} if path.suffix == ".csv" else {})).astype(
                str
            )
            table = table.fillna("")  # a Parquet table has nulls where a CSV file has empty cells
            dataset = _user_dataset(source, table)
            images = image_folder(source, dataset.pop("root", None))
            return dataset, _user_rows(images, table), len(table)
    raise AmalgamError(
        f"{source} holds neither images-*.parquet nor table.csv",
        "dvc pull (embedded data), or put a table with the columns file, label, domain beside your images",
    )


def _embedded_rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                yield {**row, "data": row["image"], "file": path.name, "name": row["caption"]}


def _user_dataset(source: Path, table: pd.DataFrame) -> dict[str, Any]:
    """Return `dataset.json` of a user's folder, with what is missing there taken from the table."""
    missing = {"file", "label", "domain"} - set(table.columns)
    if missing:
        raise AmalgamError(f"the table in {source} lacks the columns {', '.join(sorted(missing))}", "add them")
    free = table["split"] == UNLABELLED if "split" in table else pd.Series(False, table.index)

    def values(name: str) -> list[str]:
        return sorted({*table.loc[~free, name]} | ({*table.loc[free, name]} - {""}))

    attributes = {name: values(name) for name in sorted(set(table.columns) - KNOWN)}
    found = {
        "name": source.name,
        "classes": sorted({*table["label"]} - {""}),
        "domains": values("domain"),
        "attributes": attributes,
        "groups": next(iter(attributes), "label"),
        "channels": 3,
        "licence": "not stated",
        "notes": {"real": "not stated", "arranged": "not stated"},
    }
    path = source / "dataset.json"
    return {**found, **(read_json(path) if path.exists() else {})}


def image_folder(source: Path, root: str | None) -> Path:
    """Return the folder that the files of the table in `source` are relative to: `source`, or what `root` names.

    Raises AmalgamError if `root` leads out of the folder that holds `source`, or to none.
    """
    if root is None:
        return source.resolve()
    holder, path = source.parent.resolve(), PurePosixPath(root)
    found = (holder / path).resolve()
    if path.is_absolute() or ".." in path.parts or found == holder or not found.is_relative_to(holder):
        raise AmalgamError(
            f"the root in {source.name}/dataset.json is {root!r}, which is no folder below {holder.name}/",
            f"move the images there (a link will not do), and name them by a path from {holder.name}/",
        )
    if not found.is_dir():
        raise AmalgamError(f"{holder.name}/{root}, which {source.name} refers to, is not here", "dvc pull")
    return found


def image_path(images: Path, name: str) -> Path:
    """Return the path of the file `name` in the folder `images` (resolved); AmalgamError if it leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not (images / path).resolve().is_relative_to(images):
        raise AmalgamError(
            f"the file {name!r} is not inside {images.name}", "name files by a path below it; links may not lead out"
        )
    return images / path


def _user_rows(images: Path, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    attributes = sorted(set(table.columns) - KNOWN)
    for values in table.itertuples(index=False, name=None):  # one row at a time: tables can be long
        record = dict(zip(table.columns, values, strict=True))
        name = record["file"]
        path = image_path(images, name)
        told = {k: v or None for k, v in record.items()} if record.get("split") == UNLABELLED else record
        yield {
            "id": record.get("id") or name,
            "file": name,
            "data": path.read_bytes() if path.is_file() else b"",
            "expected": record.get("sha256") or None,
            "label": told["label"],
            "domain": told["domain"],
            "attributes": {a: told[a] for a in attributes},
            "split": record.get("split") or None,
            "name": record.get("caption") or record["label"],
            "concept": record.get("concept") or record.get("id") or name,
        }


def unchanged(row: dict[str, Any]) -> bytes:
    """Return the bytes of a row; raises ValueError if they are not those that its table has the `sha256` of."""
    expected = row.get("expected")
    if expected and hashlib.sha256(row["data"]).hexdigest() != expected:
        raise ValueError("not the file that the table was made with" if row["data"] else "the file is missing")
    data: bytes = row["data"]
    return data


def _check(row: dict[str, Any], dataset: dict[str, Any]) -> None:
    where = f"{row['file']}: {row['id']}"
    if row["split"] == UNLABELLED:
        if row["label"]:
            raise AmalgamError(
                f"{where} is in the split {UNLABELLED}, but has the label {row['label']!r}",
                "leave its label empty, or give it another split",
            )
        return
    if not row["label"]:
        raise AmalgamError(f"{where} has no label", f"give it one, or put it into the split {UNLABELLED}")
    if row["label"] not in dataset["classes"]:
        known = ", ".join(dataset["classes"])
        raise AmalgamError(f"{where} has the unknown label {row['label']!r}", f"use one of: {known}")
    missing = [name for name in dataset["attributes"] if not row["attributes"].get(name)]
    if missing:
        raise AmalgamError(f"{where} has no {', '.join(missing)}", "fill the column in, or drop it")


def as_png(data: bytes, size: int) -> tuple[bytes, int]:
    """Return an image as RGB PNG bytes of `size` x `size`; bytes that are that already are kept.

    Raises one of `UNDECODABLE` for bytes that are no image.
    """
    image = Image.open(io.BytesIO(data))
    image.load()
    if image.format == "PNG" and image.size == (size, size) and image.mode in ("RGB", "L"):
        return data, size
    stream = io.BytesIO()
    square = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    square.save(stream, "PNG", optimize=True)
    return stream.getvalue(), size


def reason_of(error: Exception) -> str:
    """Return why bytes are no image, in a line; without the address of the stream, which differs from run to run."""
    return re.sub(r" <_io\.BytesIO object at 0x[0-9a-f]+>", "", str(error))[:200]


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary, compression="zstd")
