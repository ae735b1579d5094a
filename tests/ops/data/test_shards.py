import tarfile

import numpy as np
import pytest

from ops.data.loading import open_images
from ops.data.shards import read_shard, write_shard
from ops.errors import AmalgamError

SAMPLES = [(f"{i:08d}", bytes([i]) * 700, {"id": str(i)}) for i in range(6)]


def test_equal_content_is_equal_bytes(tmp_path):
    one, two = write_shard(tmp_path / "a.tar", SAMPLES), write_shard(tmp_path / "b.tar", SAMPLES)
    assert one == two
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {member.mtime for member in tar} == {0}


def test_samples_come_back_in_order(tmp_path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    assert list(read_shard(tmp_path / "a.tar")) == [(key, data) for key, data, _ in SAMPLES]


@pytest.mark.parametrize("keep", [0, 100, 600, 1500, 5000, 9215])
def test_a_truncated_shard_is_named(tmp_path, keep):
    write_shard(tmp_path / "part.tar", SAMPLES)
    whole = (tmp_path / "part.tar").read_bytes()
    assert keep < len(whole)
    (tmp_path / "part.tar").write_bytes(whole[:keep])
    with pytest.raises(AmalgamError, match=r"part\.tar"):
        list(read_shard(tmp_path / "part.tar"))


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(AmalgamError, match=r"gone\.tar is missing"):
        list(read_shard(tmp_path / "gone.tar"))


def test_images_are_decoded_once_and_match_the_manifest(shards, tmp_path):
    images = open_images(shards, "train", tmp_path)
    assert len(images) == 96
    assert [images.classes[k] for k in images.labels] == images.table["label"].tolist()
    x = images.batch([3, 5])
    assert x.shape == (2, 3, 32, 32)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    np.testing.assert_array_equal((x[1] * 255).round().numpy().transpose(1, 2, 0), images.images[5])
    stamp = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    assert len(stamp) == 1
    open_images(shards, ["train"], tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")} == stamp


def test_an_empty_split_is_an_error(shards, tmp_path):
    with pytest.raises(AmalgamError, match="no images in shift"):
        open_images(shards, "shift", tmp_path)


def test_an_image_that_is_not_in_its_shard_is_an_error(shard_maker, tmp_path):
    folder = shard_maker(tmp_path / "s", {"train": 8})
    kept = list(read_shard(folder / "train" / "train-000000.tar"))[:-2]
    write_shard(folder / "train" / "train-000000.tar", [(key, data, {}) for key, data in kept])
    with pytest.raises(AmalgamError, match="2 images of the manifest"):
        open_images(folder, "train", tmp_path / "cache")
