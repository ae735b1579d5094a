"""Copies of training images are found whatever was done to them, honest images are left, and killed searches go on."""

import hashlib
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import ops.sample.duplicates as duplicates
from ops.data.hashing import decode_grey, phash
from ops.data.loading import open_images
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.pictures import png
from ops.data.shards import finish_shard_folder, write_shard
from ops.errors import AmalgamError
from ops.sample.config import CopiesConfig, FilteredSyntheticConfig
from ops.sample.filtering import COPY, filter_synthetic
from tests.ops.conftest import DATASET
from tests.ops.sample.conftest import save_untrained_scorer

CPU = torch.device("cpu")
SHARD = 20


def changed(image: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    if how == "moved":
        return np.roll(image, 1, axis=1)
    if how == "mirrored":
        return image[:, ::-1]
    if how == "noisy":
        return np.clip(image.astype(int) + rng.integers(-1, 2, image.shape), 0, 255).astype(np.uint8)
    return image


def textures(count: int, seed: int, waves: int = 6) -> np.ndarray:
    """Return smooth random pictures (count, 32, 32, 3) uint8; finer ones are farther from each other."""
    rng = np.random.default_rng(seed)
    drawn = [Image.fromarray(rng.integers(0, 256, (waves, waves, 3), dtype=np.uint8)) for _ in range(count)]
    return np.stack([np.asarray(each.resize((32, 32), Image.Resampling.BICUBIC)) for each in drawn])


def write_folder(out, splits: dict[str, np.ndarray], oversampled: tuple[int, ...] = ()):
    """Write images as a shard folder, twenty in a shard; ids are `<split>-<number>`."""
    rows = []
    for split, images in splits.items():
        (out / split).mkdir(parents=True)
        for start in range(0, len(images), SHARD):
            samples, name = [], f"{split}/{split}-{start // SHARD:06d}.tar"
            for number in range(start, min(start + SHARD, len(images))):
                data, key = png(Image.fromarray(np.ascontiguousarray(images[number]))), f"{number:08d}"
                label, identity = DATASET["classes"][number % 2], f"{split}-{number}"
                samples.append((key, data, {"id": identity, "label": label}))
                rows.append(
                    {
                        **{"id": identity, "shard": name, "key": key, "label": label, "name": label, "caption": label},
                        **{"domain": "paper", "attributes": [("tone", "0")], "split": split, "concept": ""},
                        "source": "oversampled" if number in oversampled else "synthetic",
                        "provenance": json.dumps({"seed": [0, number]}),
                        "sha256": hashlib.sha256(data).hexdigest(),
                        "phash": f"{int(phash(decode_grey(data)[None])[0]):016x}",
                        **{"width": 32, "height": 32, "weight": 1.0},
                    }
                )
            write_shard(out / name, samples)
    finish_shard_folder(out, pa.Table.from_pylist(rows, MANIFEST_SCHEMA), json.loads(json.dumps(DATASET)))
    return out


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    splits = {"train": textures(96, 1), "validation": textures(32, 2)}
    return write_folder(tmp_path_factory.mktemp("real") / "shards", splits)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return synthetic shards, of which every fifth image repeats a training image, and {id: id of that image}."""
    images, train, rng = textures(60, 3, waves=16), textures(96, 1), np.random.default_rng(0)
    for number in range(0, 60, 5):
        how = ("same", "moved", "mirrored", "noisy")[number // 5 % 4]
        images[number] = changed(train[number + 3], how, rng)
    out = write_folder(tmp_path_factory.mktemp("planted") / "shards", {"train": images}, oversampled=(5,))
    return out, {f"train-{number}": f"train-{number + 3}" for number in range(0, 60, 5)}


def search(real, planted, home, recorder, config=None):
    table = read_manifest(planted).sort_values(["split", "shard", "key"]).reset_index(drop=True)
    home.mkdir(exist_ok=True, parents=True)
    found = duplicates.find_copies(
        config or CopiesConfig(), real, planted, table, {}, home, home / "cache", CPU, recorder
    )
    return {i: original for i, original in zip(table["id"], found, strict=True) if original is not None}


def test_copies_are_found_as_they_are_moved_mirrored_and_noisy(real, planted, tmp_path, recorder):
    folder, expected = planted[0], dict(planted[1])
    found = search(real, folder, tmp_path, recorder)
    assert expected.pop("train-5"), "planned on purpose: it is left"
    assert found == expected


def test_the_threshold_is_what_few_held_out_images_are_within(real, tmp_path, recorder):
    """By brute force over all pairs, shifts and mirrorings; the reference is validation where there is no `near`."""
    config = CopiesConfig(percentile=10, neighbours=96)
    originals = duplicates.learn_originals(config, real, {}, tmp_path, CPU, recorder)
    assert originals.reference == "validation"
    train, held_out = (
        open_images(real, split, tmp_path).images.astype(np.float64) for split in ("train", "validation")
    )
    inner = held_out[:, 1:-1, 1:-1]
    least = np.full(len(held_out), np.inf)
    for turned in (train, train[:, :, ::-1]):
        for y in range(3):
            for x in range(3):
                moved = turned[:, y : y + 30, x : x + 30]
                for place, image in enumerate(inner):
                    least[place] = min(least[place], np.sqrt(((moved - image) ** 2).mean(axis=(1, 2, 3))).min() / 255)
    assert originals.search.plain.threshold == pytest.approx(np.percentile(least, 10, method="lower"), rel=1e-5)


def test_a_killed_search_goes_on_where_it_was(real, planted, tmp_path, recorder_type, monkeypatch):
    folder, _ = planted
    whole = search(real, folder, tmp_path / "whole", recorder_type())
    searched = []
    original = duplicates.Originals.repeated
    monkeypatch.setattr(
        duplicates.Originals,
        "repeated",
        lambda self, images, *rest: searched.append(1) or original(self, images, *rest),
    )
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "copies-train-train-000000.tar.npy").write_bytes(
        (tmp_path / "whole" / "copies-train-train-000000.tar.npy").read_bytes()
    )
    assert search(real, folder, tmp_path / "killed", recorder_type()) == whole
    assert len(searched) == 2


def test_a_dataset_without_held_out_images_is_refused(planted, tmp_path, recorder):
    only = write_folder(tmp_path / "only", {"train": textures(8, 0)})
    with pytest.raises(AmalgamError, match="near, validation"):
        search(only, planted[0], tmp_path / "scratch", recorder)


def test_the_filter_drops_copies_before_it_balances_and_says_of_what(real, planted, tmp_path, recorder):
    folder, expected = planted[0], dict(planted[1])
    save_untrained_scorer(tmp_path / "scorer")
    judge = {"classifier/scorer/seed-0": tmp_path / "scorer"}
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    config = FilteredSyntheticConfig(labels="conditional", rule="all")
    summary = filter_synthetic(
        config, real, folder, judge, tmp_path / "out", tmp_path / "scratch", tmp_path / "cache", CPU, recorder
    )
    removed = pq.read_table(tmp_path / "out" / "removed.parquet").to_pandas()
    del expected["train-5"]
    assert dict(zip(removed["id"], removed["copy_of"], strict=True)) == expected
    assert set(removed["reason"]) == {COPY}
    assert summary.figures["removed"] == len(expected)
    kept = read_manifest(tmp_path / "out")
    assert len(kept) == 60 - len(expected)
    assert "train-5" in set(kept["id"])
    with tarfile.open(tmp_path / "out" / "train" / "train-000000.tar") as tar:
        names = {name.split(".")[0] for name in tar.getnames()}
    assert names == set(kept[kept["shard"] == "train/train-000000.tar"]["key"])
