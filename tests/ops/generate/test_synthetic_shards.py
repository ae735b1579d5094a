"""Shards of any source: the rows it is asked for, each drawn once, progress as that of the whole."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.generate.shards import NOTE, given, write_synthetic
from ops.launching import Here
from ops.progress import Silent

HERE = Here(torch.device("cpu"))
DATASET = {
    "classes": ["bar"],
    "attributes": {"tone": ["0", "1"]},
    "groups": "tone",
    "image_size": 8,
    "notes": {"real": "drawn"},
}
ROWS = [
    {
        "index": 3 * i,
        "label": "bar",
        "domain": "paper",
        "attributes": {"tone": str(i % 2)},
        "name": "bar",
        "concept": "bar",
        "caption": "a bar",
    }
    for i in range(10)
]


@dataclass
class Grey:
    """A source whose images are as grey as their row's index."""

    name: str = "grey"
    identity: str = "0" * 64
    sampler: dict[str, Any] = field(default_factory=lambda: {"by": "index"})
    seed: int = 5
    asked: list[int] = field(default_factory=list)

    def draw(self, rows, monitor):
        self.asked += [row["index"] for row in rows]
        monitor.progress(len(rows), len(rows), "image")
        return np.stack([np.full((8, 8, 3), row["index"], np.uint8) for row in rows])


class Heard(Silent):
    def __init__(self):
        self.progresses = []

    def progress(self, done, total, unit="it", **figures):
        self.progresses.append((done, total))


def test_every_row_has_its_image_and_its_provenance(folders):
    out, scratch, cache = folders("out", "scratch", "cache")
    source, heard = Grey(), Heard()
    write_synthetic(given(source), ROWS, DATASET, out, scratch, 4, HERE, heard)
    images = open_images(out, "train", cache)
    assert images.images[:, 0, 0, 0].tolist() == [3 * i for i in range(10)]
    assert images.table["id"].tolist() == [f"synthetic-{3 * i:08d}" for i in range(10)]
    assert images.table["provenance"][2] == (
        '{"generator": "' + "0" * 64 + '", "sampler": {"by": "index"}, "seed": [5, 6]}'
    )
    assert source.asked == [row["index"] for row in ROWS]
    assert heard.progresses == [(4, 10), (4, 10), (8, 10), (8, 10), (10, 10), (10, 10)]
    assert read_json(out / "dataset.json")["notes"] == {"real": "drawn", "synthetic": NOTE}
    assert pq.read_table(out / "manifest.parquet").num_rows == 10


def test_only_the_shard_that_is_missing_is_drawn_again(folders):
    out, again, scratch = folders("out", "again", "scratch")
    write_synthetic(given(Grey()), ROWS, DATASET, out, scratch, 4, HERE, Silent())
    (scratch / "train-000001.tar").unlink()
    source = Grey()
    write_synthetic(given(source), ROWS, DATASET, again, scratch, 4, HERE, Silent())
    assert source.asked == [12, 15, 18, 21]
    assert content_hash(again) == content_hash(out)


def test_a_note_of_the_caller_is_kept(folders):
    out, scratch = folders("out", "scratch")
    dataset = {**DATASET, "notes": {"synthetic": "mine"}}
    write_synthetic(given(Grey()), ROWS, dataset, out, scratch, 40, HERE, Silent())
    assert read_json(out / "dataset.json")["notes"] == {"synthetic": "mine"}


def test_a_plan_without_rows_is_refused(folders):
    out, scratch = folders("out", "scratch")
    with pytest.raises(AmalgamError, match="no rows"):
        write_synthetic(given(Grey()), [], DATASET, out, scratch, 4, HERE, Silent())
