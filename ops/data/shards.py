"""WebDataset shards whose bytes depend on their content only."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds

from ops.data.config import RealShardsConfig
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.pictures import contact_sheet
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.progress import Monitor
from ops.summary import Summary

Sample = tuple[str, bytes, dict[str, Any]]
"""Key, PNG bytes, and a small JSON record."""


def write_shard(path: Path, samples: Iterable[Sample]) -> str:
    """Write `samples` as one tar file and return its md5. `mtime` is 0: equal content is equal bytes."""
    with replacing(path) as temporary:
        with temporary.open("wb") as stream, wds.TarWriter(stream, encoder=False, mtime=0) as tar:
            for key, image, record in samples:
                text = json.dumps(record, sort_keys=True, ensure_ascii=False)
                tar.write({"__key__": key, "json": text.encode(), "png": image})
        return hashlib.md5(temporary.read_bytes(), usedforsecurity=False).hexdigest()


def read_shard(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield key and PNG bytes of each sample; raises AmalgamError that names a shard that is missing or truncated.

    Python's `tarfile` is used rather than a WebDataset pipeline because it says so when a file ends too early.
    """
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    file = tar.extractfile(member)
                    data = file.read() if file else b""
                    if len(data) != member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    yield member.name.removesuffix(".png"), data
            if path.stat().st_size < tar.offset + 512:  # the two empty blocks that end a tar are missing
                raise tarfile.ReadError("unexpected end of data")
    except FileNotFoundError:
        raise AmalgamError(f"the shard {path.parent.name}/{path.name} is missing", REMEDY) from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise AmalgamError(f"the shard {path.parent.name}/{path.name} is damaged: {error}", REMEDY) from None


REMEDY = "dvc checkout brings it back; or make it again: python -m pipelines run"


def finish_shard_folder(out: Path, rows: pa.Table, dataset: dict[str, Any]) -> None:
    """Complete a shard folder: `manifest.parquet`, sorted by split, shard and key, and `dataset.json`."""
    ordered = rows.select(MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA)
    ordered = ordered.sort_by([("split", "ascending"), ("shard", "ascending"), ("key", "ascending")])
    with replacing(out / "manifest.parquet") as temporary:
        pq.write_table(ordered, temporary, compression="zstd")
    write_json(out / "dataset.json", dataset)


def write_real_shards(config: RealShardsConfig, curated: Path, raw: Path, out: Path, monitor: Monitor) -> Summary:
    """Write the images of `curated` as shards by split; rows that are withheld stay out.

    The shards of `raw` are read once, in order; only one split's shard is held in memory at a time for each split.
    """
    table = read_manifest(curated)
    places = {
        (shard, key): number for number, (shard, key) in enumerate(zip(table["shard"], table["key"], strict=True))
    }
    waiting: dict[str, list[Sample]] = {}
    written: dict[str, int] = {}
    place: dict[int, tuple[str, str]] = {}
    splits, ids, labels = table["split"].tolist(), table["id"].tolist(), table["label"].tolist()

    def flush(split: str) -> None:
        name = f"{split}/{split}-{written.get(split, 0):06d}.tar"
        (out / split).mkdir(exist_ok=True)
        write_shard(out / name, waiting.pop(split))
        written[split] = written.get(split, 0) + 1

    counts: dict[str, int] = {}
    shards = sorted(set(table["shard"]))
    for done, shard in enumerate(shards, start=1):
        for key, image in read_shard(raw / shard):
            number = places.get((shard, key))
            if number is None or splits[number] == "withheld":
                continue
            split = splits[number]
            new = f"{counts.get(split, 0):08d}"
            counts[split] = counts.get(split, 0) + 1
            place[number] = (f"{split}/{split}-{written.get(split, 0):06d}.tar", new)
            waiting.setdefault(split, []).append((new, image, {"id": ids[number], "label": labels[number]}))
            if len(waiting[split]) == config.shard_size:
                flush(split)
        monitor.progress(done, len(shards), "shard")
    for split in sorted(waiting):
        flush(split)
    kept = table.iloc[sorted(place)].copy()
    kept["shard"], kept["key"] = zip(*(place[number] for number in sorted(place)), strict=True)
    finish_shard_folder(
        out,
        pa.Table.from_pandas(kept, schema=MANIFEST_SCHEMA, preserve_index=False),
        read_json(curated / "dataset.json"),
    )
    contact_sheet(out, "train", out / "pictures" / "train.png", title="training images")
    rows: list[dict[str, Any]] = [{"split": s, "images": counts[s], "shards": written[s]} for s in sorted(counts)]
    return Summary({"images": len(place), "shards": sum(written.values())}, {"splits": rows})


def read_images(folder: Path, shard: str, keys: set[str]) -> dict[str, bytes]:
    """Return the PNG bytes of `keys` in one shard of `folder`."""
    return {key: data for key, data in read_shard(folder / shard) if key in keys}


def as_stream(data: bytes) -> io.BytesIO:
    """Return `data` as a file."""
    return io.BytesIO(data)
