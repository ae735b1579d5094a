"""Rows that repeat a training image: its very bytes, whatever is drawn beside it."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from ops.data.manifest import read_manifest
from ops.data.shards import read_images
from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.generate.shards import given, write_synthetic
from ops.launching import Here
from ops.progress import Silent

HERE = Here(torch.device("cpu"))


@dataclass
class Grey:
    """A source whose images are as grey as their row's index."""

    name: str = "grey"
    identity: str = "0" * 64
    sampler: dict[str, Any] = field(default_factory=dict)
    seed: int = 5
    asked: list[int] = field(default_factory=list)

    def draw(self, rows, monitor):
        assert rows, "nothing is asked for where nothing is drawn"
        self.asked += [row["index"] for row in rows]
        return np.stack([np.full((32, 32, 3), row["index"], np.uint8) for row in rows])


@pytest.fixture
def rows(shards):
    """Twelve rows, of which all but every third repeat a training image; one image is repeated twice."""
    train = read_manifest(shards).query("split == 'train'")
    copied = {i: train["id"].iloc[7 * (i // 2)] for i in range(12) if i % 3}
    return [
        {
            "index": i,
            "label": train["label"].iloc[i],
            "domain": "paper",
            "attributes": {"tone": "0"},
            "name": "bar",
            "concept": "bar",
            "caption": "a bar",
            "method": "oversample" if i in copied else "generate",
            "copy_of": copied.get(i),
        }
        for i in range(12)
    ]


def written(rows, shards, folders, tag, source=None, size=5):
    out, scratch = folders(f"out-{tag}", f"scratch-{tag}")
    dataset = read_json(shards / "dataset.json")
    write_synthetic(given(source or Grey()), rows, dataset, out, scratch, size, HERE, Silent(), shards)
    return out, scratch


def test_a_repeated_image_is_the_original_byte_for_byte(rows, shards, folders):
    source = Grey()
    out, _ = written(rows, shards, folders, "a", source)
    real = read_manifest(shards).set_index("id")
    made = read_manifest(out).set_index("id")
    assert source.asked == [0, 3, 6, 9]
    for row in rows:
        line = made.loc[f"synthetic-{row['index']:08d}"]
        data = read_images(out, line["shard"], {line["key"]})[line["key"]]
        told = json.loads(line["provenance"])
        if row["copy_of"] is None:
            assert line["source"] == "synthetic"
            assert told["seed"] == [5, row["index"]]
        else:
            place = real.loc[row["copy_of"]]
            assert data == read_images(shards, place["shard"], {place["key"]})[place["key"]]
            assert line["source"] == "oversampled"
            assert told == {"copy_of": row["copy_of"]}
    assert "training images" in read_json(out / "dataset.json")["notes"]["oversampled"]


def test_a_shard_with_repeated_images_is_made_again_alone(rows, shards, folders):
    out, scratch = written(rows, shards, folders, "whole")
    (scratch / "train-000001.tar").unlink()
    (again,) = folders("again")
    source = Grey()
    write_synthetic(given(source), rows, read_json(shards / "dataset.json"), again, scratch, 5, HERE, Silent(), shards)
    assert source.asked == [6, 9]
    assert content_hash(again) == content_hash(out)


def test_a_shard_of_repeated_images_alone_asks_no_source(rows, shards, folders):
    copies = [row for row in rows if row["copy_of"]]
    out, _ = written(copies, shards, folders, "copies", Grey(), size=3)
    assert (read_manifest(out)["source"] == "oversampled").all()


def test_a_plan_without_copies_needs_no_real_images(rows, folders, shards):
    drawn = [{k: v for k, v in row.items() if k not in ("method", "copy_of")} for row in rows]
    out, scratch = folders("out", "scratch")
    dataset = read_json(shards / "dataset.json")
    write_synthetic(given(Grey()), drawn, dataset, out, scratch, 5, HERE, Silent())
    assert (read_manifest(out)["source"] == "synthetic").all()
    assert "oversampled" not in read_json(out / "dataset.json")["notes"]


def test_copies_that_cannot_be_made_are_refused_before_anything_is_drawn(rows, folders, shards):
    out, scratch = folders("out", "scratch")
    dataset, source = read_json(shards / "dataset.json"), Grey()
    with pytest.raises(AmalgamError, match="no folder of real images"):
        write_synthetic(given(source), rows, dataset, out, scratch, 5, HERE, Silent())
    assert source.asked == []
    test_image = read_manifest(shards).query("split == 'test'")["id"].iloc[0]
    stolen = [*rows[:-1], {**rows[-1], "copy_of": test_image}]
    with pytest.raises(AmalgamError, match=f"not in the training split of .*{test_image}"):
        write_synthetic(given(source), stolen, dataset, out, scratch, 12, HERE, Silent(), shards)
    assert source.asked == []
