"""How studies make folders of their own: each once, shard folders with their images dealt out to splits."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ops.data.hashing import decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.pictures import png
from ops.data.shards import Sample, finish_shard_folder, write_shard
from ops.errors import AmalgamError
from ops.files import read_json, replace_folder, write_json
from ops.runtime import derive_seed
from ops.sample.strategies import allocate
from pipelines.resources import git_commit

SHARD_SIZE = 1000


def deal(labels: np.ndarray, sizes: Mapping[str, int], seed: int, name: str) -> dict[str, np.ndarray]:
    """Return the rows of each split, disjoint and in random order, classes as frequent as in `labels` (N,) int64.

    A class is shuffled once and dealt out in the order of `sizes`; each split takes its largest-remainder share.
    Raises AmalgamError if that is more than there are.
    """
    if sum(sizes.values()) > len(labels) or min(sizes.values()) < 0:
        asked = " + ".join(f"{n} {split}" for split, n in sizes.items())
        raise AmalgamError(f"{name} has {len(labels)} images, not {asked}", "ask for fewer")
    found = np.bincount(labels)
    rng = {label: np.random.default_rng(derive_seed(seed, name, label)) for label in range(len(found))}
    piles = [rng[label].permutation(np.flatnonzero(labels == label)) for label in range(len(found))]
    dealt = {}
    for split, size in sizes.items():
        counts = allocate(found / found.sum(), size)
        if any(count > len(pile) for count, pile in zip(counts, piles, strict=True)):
            raise AmalgamError(f"{name} has too few images of a class for {size} in {split}", "ask for fewer")
        rows = np.concatenate([pile[:count] for count, pile in zip(counts, piles, strict=True)])
        piles = [pile[count:] for count, pile in zip(counts, piles, strict=True)]
        dealt[split] = np.random.default_rng(derive_seed(seed, name, split)).permutation(rows)
    return dealt


def portions(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `rows` in the portions of shards."""
    for start in range(0, len(rows), SHARD_SIZE):
        yield rows[start : start + SHARD_SIZE]


@contextmanager
def built(out: Path, settings: dict[str, Any]) -> Iterator[Path | None]:
    """Yield a temporary sibling that becomes `out` when the block succeeds; None if `out` is made already.

    Raises AmalgamError if `out` was made with other settings, or by somebody else.
    """
    note = out / "study.json"
    if out.exists() and any(out.iterdir()):
        if not note.exists() or read_json(note) != json.loads(json.dumps(settings)):
            raise AmalgamError(f"{out.name} holds other data than was asked for", "remove it, or name another folder")
        yield None
        return
    temporary = out.with_name(f".{out.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        write_json(temporary / "study.json", settings)
        replace_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Writer:
    """Writes shards one after the other and remembers their manifest rows."""

    def __init__(self, folder: Path, domain: str, source: str = "real") -> None:
        self.folder, self.fixed = folder, {"domain": domain, "source": source, "weight": 1.0}
        self.rows: list[dict[str, Any]] = []
        self.shards: dict[str, int] = {}
        self.images: dict[str, int] = {}

    def write(self, split: str, images: np.ndarray, records: Sequence[Mapping[str, Any]]) -> None:
        """Write one shard of `images` (N, H, W, 3) uint8 to `split`."""
        name = f"{split}/{split}-{self.shards.get(split, 0):06d}.tar"
        first = self.images.get(split, 0)
        keys = [f"{first + i:08d}" for i in range(len(images))]
        data = [png(Image.fromarray(image)) for image in images]
        samples: list[Sample] = [
            (key, each, {"id": record["id"], "label": record["label"]})
            for key, each, record in zip(keys, data, records, strict=True)
        ]
        write_shard(self.folder / name, samples)
        hashes = phash(np.stack([decode_grey(each) for each in data]))
        height, width = images.shape[1:3]
        place = {**self.fixed, "split": split, "shard": name, "height": height, "width": width, "attributes": []}
        self.rows += [
            {
                **place, **record, "key": key, "concept": record["id"], "phash": f"{value:016x}",
                "sha256": hashlib.sha256(each).hexdigest(),
            }
            for key, each, value, record in zip(keys, data, hashes, records, strict=True)
        ]  # fmt: skip
        self.shards[split], self.images[split] = self.shards.get(split, 0) + 1, first + len(images)

    def finish(self, dataset: Mapping[str, Any]) -> None:
        """Write manifest and `dataset.json`; what `dataset` does not say is filled in."""
        usual = {"domains": [self.fixed["domain"]], "attributes": {}, "groups": "label", "channels": 3}
        described = {**usual, "licence": "not stated", **dataset}
        finish_shard_folder(self.folder, pa.Table.from_pylist(self.rows, MANIFEST_SCHEMA), described)


def once(folder: Path, make: Callable[[Path, Path], object]) -> Path:
    """Return `folder`, made by `make(out, scratch)` if it is not there; `scratch` survives a kill, `out` does not.

    The revision that made it is noted beside it, for `revision_of`.
    """
    if not folder.exists():
        out, scratch = folder.with_name(f"{folder.name}.tmp"), folder.with_name(f"{folder.name}.scratch")
        shutil.rmtree(out, ignore_errors=True)
        for each in (out, scratch):
            each.mkdir(parents=True, exist_ok=True)
        make(out, scratch)
        note = _note(folder)
        note.parent.mkdir(exist_ok=True)
        note.write_text(git_commit())
        out.rename(folder)
        shutil.rmtree(scratch)
    return folder


def revision_of(folder: Path) -> str:
    """Return the revision that made a folder of `once`, twelve digits of it."""
    return _note(folder).read_text()[:12]


def _note(folder: Path) -> Path:
    return folder.parent / "revisions" / folder.name
