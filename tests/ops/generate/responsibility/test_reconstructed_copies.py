"""Copies that went through an autoencoder: missed beside the originals, found beside their reconstructions.

The autoencoder is a known blur: means of 2 x 2 pixels. One image in five is smooth and comes back as it was, the others have a
grain that is lost, so that what they become is farther from them than smooth held-out images are from each other.
"""

from functools import cache

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ops.data.config import CuratedManifestConfig
from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.measurements import read_measurements
from ops.generate.responsibility.config import MemorisationConfig, ResponsibilityConfig
from ops.generate.responsibility.copies import hashes_of, sample_of
from ops.generate.responsibility.measure import measure_responsibility, write_responsibility
from ops.generate.responsibility.memorisation import learn_honest, measure_memorisation, memorisation_gate
from ops.generate.responsibility.reconstructions import reconstruct
from ops.progress import Silent

CPU = torch.device("cpu")
CONFIG = MemorisationConfig(percentile=5, cells=3)
SIDE, TRAIN, HELD_OUT = 16, 300, 200


class Blur:
    """A codec that keeps the means of 2 x 2 pixels, and counts what it decodes."""

    latent, identity, decoded = (3, SIDE // 2, SIDE // 2), "blur", 0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        self.decoded += len(z)
        return F.interpolate(z, scale_factor=2)


def as_set(images: np.ndarray, name: str) -> ImageSet:
    hashes = [f"{value:016x}" for value in hashes_of(images)]
    table = pd.DataFrame({"id": [f"{name}-{i}" for i in range(len(images))], "phash": hashes, "caption": "a picture"})
    return ImageSet(images, np.zeros(len(images), np.int64), table, ("picture",))


@cache
def pictures(count: int, seed: int) -> ImageSet:
    """Return faint smooth pictures, of which all but every fifth have a strong grain."""
    rng = np.random.default_rng(seed)
    drawn = [Image.fromarray(rng.integers(90, 166, (4, 4, 3), dtype=np.uint8)) for _ in range(count)]
    smooth = np.stack([np.asarray(each.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for each in drawn])
    grain = np.where(np.arange(count) % 5, 45, 0)[:, None, None, None] * rng.normal(size=smooth.shape)
    return as_set(np.clip(np.rint(smooth + grain), 0, 255).astype(np.uint8), f"seed{seed}")


def features(images: ImageSet) -> np.ndarray:
    """Return means of 4 x 4 pixels."""
    return images.images.reshape(len(images), SIDE // 4, 4, SIDE // 4, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1)


def sample(images: ImageSet):
    return sample_of(images, features(images), "images")


@pytest.fixture(scope="module")
def blurred(tmp_path_factory):
    """Return a function that sends images through the codec."""
    home = tmp_path_factory.mktemp("cache")
    return lambda images: reconstruct(Blur(), images, home, CPU, Silent())


@pytest.fixture(scope="module")
def honest(blurred):
    """Return what held-out images are like, with the autoencoder and without."""
    sets = pictures(TRAIN, 0), pictures(HELD_OUT, 1)
    plain = [sample(images) for images in sets]
    again = tuple(sample(blurred(images)) for images in sets)
    return learn_honest(CONFIG, *plain, "held", again), learn_honest(CONFIG, *plain, "held")


@pytest.fixture(scope="module")
def copycat(blurred):
    """Return reconstructions of grainy training images with a little noise, and the places of these."""
    places = np.flatnonzero(np.arange(TRAIN) % 5)[::3]
    images = blurred(pictures(TRAIN, 0)).images[places]
    noise = np.random.default_rng(5).integers(-2, 3, images.shape)
    return as_set(np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8), "made"), places


def test_copies_after_the_autoencoder_are_found_beside_reconstructions_only(honest, copycat):
    images, places = copycat
    found = honest[0].search.find(sample(images))
    assert not honest[0].search.plain.copies(found.near).any(), "as it was before: none is found"
    assert found.copies.all()
    assert found.closest.tolist() == places.tolist()
    without = honest[1].search.find(sample(images))
    assert without.reconstructed is None
    assert not without.copies.any()


def test_unseen_images_are_taken_for_copies_as_often_as_the_percentile_says(honest, blurred):
    """As they are by one comparison, reconstructed by the other; the other way round hardly ever."""
    search, unseen = honest[0].search, pictures(400, 2)
    for images in (unseen, blurred(unseen)):
        found = search.find(sample(images))
        own, other = search.plain.copies(found.near).mean(), search.reconstructed.copies(found.reconstructed).mean()
        if images is not unseen:
            own, other = other, own
        assert 0.02 < own < 0.09, "five in a hundred"
        assert other <= own
        assert found.copies.mean() < 0.12
    assert honest[0].reconstructed[0] == 0.05
    assert honest[0].copies[0] <= 0.1


def test_plain_copies_are_still_found_and_named_after_the_pixels(honest):
    places = np.arange(0, TRAIN, 7)
    found = honest[0].search.find(sample(pictures(TRAIN, 0).subset(places)))
    assert found.copies.all()
    assert found.closest.tolist() == places.tolist()
    assert (found.near.pixels == 0).all()


def test_the_gate_counts_them_and_the_list_says_how_they_were_found(honest, copycat):
    images, places = copycat
    with_it, without = (measure_memorisation(CONFIG, each, sample(images)) for each in honest)
    assert with_it.copies[0] == with_it.reconstructed[0] == 1
    assert without.copies[0] == 0
    assert without.reconstructed is without.reconstructed_held_out is None
    assert any("are copies" in reason for reason in memorisation_gate(CONFIG, with_it).reasons)
    assert not any("are copies" in reason for reason in memorisation_gate(CONFIG, without).reasons)
    listed = with_it.listed.set_index("id")
    assert len(listed) == len(places)
    for number, place in enumerate(places):
        line = listed.loc[f"made-{number}"]
        assert line["training_id"] == f"seed0-{place}"
        assert line["confirmed"]
        assert "reconstruction" in line["found"]
        assert line["reconstruction_distance"] < 0.01 < line["pixel_distance"]
    same = ("closer", "ratio", "authentic", "cells")
    assert [getattr(with_it, name) for name in same] == [getattr(without, name) for name in same]


def test_the_stage_writes_rows_pictures_and_distances_of_both(blurred, copycat, tmp_path):
    sets = {"train": pictures(TRAIN, 0), "near": pictures(HELD_OUT, 1)}
    again = {name: blurred(images) for name, images in sets.items()}
    sources = {"diffusion": copycat[0]}
    arrays = {name: features(images) for name, images in (sets | sources).items()}
    arrays |= {f"reconstructed/{name}": features(images) for name, images in again.items()}
    config = ResponsibilityConfig(memorisation=CONFIG)
    everything = (
        config, CuratedManifestConfig(), sets["train"], {"near": sets["near"]}, sources, {"small": arrays}, {}, "d",
        None, CPU, Silent(),
    )  # fmt: skip
    found = measure_responsibility(*everything, again)
    write_responsibility(config, found, sets["train"], sources, tmp_path, again["train"])
    value = read_measurements(tmp_path).set_index("metric")["value"]
    assert value["copies of reconstructions (small)"] == value["copies (small)"] == 1
    assert value["copies of reconstructions, held-out (small)"] == 0.05
    assert pq.read_table(tmp_path / "copies.parquet").to_pandas()["reconstruction_distance"].max() < 0.01
    pictured = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert pictured == {"closest-diffusion-small.png", "closest-diffusion-small-reconstructed.png"}
    plain = measure_responsibility(*everything)
    write_responsibility(config, plain, sets["train"], sources, tmp_path / "plain")
    assert not read_measurements(tmp_path / "plain")["metric"].str.contains("reconstruction").any()
    lines = pq.read_table(tmp_path / "plain" / "copies.parquet").to_pandas()
    assert not lines["confirmed"].any()
    assert lines["reconstruction_distance"].isna().all()
    del arrays["reconstructed/near"]
    with pytest.raises(AmalgamError, match="lacks features of reconstructed/near"):
        measure_responsibility(*everything, again)


def test_reconstructions_are_computed_once_and_known_by_their_own_hashes(tmp_path, recorder):
    codec, images = Blur(), pictures(TRAIN, 0)
    first = reconstruct(codec, images, tmp_path, CPU, recorder)
    assert (codec.decoded, recorder.calls) == (TRAIN, 3)
    second = reconstruct(codec, images, tmp_path, CPU, recorder)
    assert codec.decoded == TRAIN, "read from the cache"
    blocks = images.images.reshape(TRAIN, SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(2, 4))
    expected = np.repeat(np.repeat(blocks, 2, axis=1), 2, axis=2)
    assert abs(first.images - expected).max() <= 0.5
    np.testing.assert_array_equal(first.images, second.images)
    assert first.table["phash"].tolist() == [f"{value:016x}" for value in hashes_of(first.images)]
    assert first.table["phash"].tolist() != images.table["phash"].tolist()
    assert first.table["id"].tolist() == images.table["id"].tolist()
    other = pictures(HELD_OUT, 1)
    assert len(reconstruct(codec, other, tmp_path, CPU, recorder)) == HELD_OUT
    assert codec.decoded == TRAIN + HELD_OUT
