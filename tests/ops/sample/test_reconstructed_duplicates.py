"""The filter with a trained latent generator beside it: reconstructions of training images are copies, unseen ones are not."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images
from ops.data.manifest import read_manifest
from ops.generate.autoencoder import train_autoencoder
from ops.generate.codec import load_codec, save_pixel_codec
from ops.generate.config import AutoencoderConfig
from ops.generate.diffusion import train_diffusion
from ops.generate.model_config import DiffusionConfig, DiTConfig
from ops.generate.pipeline import load_generator
from ops.generate.responsibility.config import MemorisationConfig, RepresentationConfig, ResponsibilityStageConfig
from ops.generate.responsibility.reconstructions import codec_of, reconstruct
from ops.generate.responsibility.stage import write_responsibility_report
from ops.progress import Silent
from ops.sample.config import CopiesConfig, FilteredSyntheticConfig
from ops.sample.duplicates import find_copies
from ops.sample.filtering import COPY, filter_synthetic
from tests.ops.sample.conftest import save_untrained_scorer
from tests.ops.sample.test_duplicates import textures, write_folder

CPU = torch.device("cpu")
AUTOENCODER = AutoencoderConfig(
    channels=[8, 16], latent_channels=4, steps=80, batch=8, perceptual_weight=0.0, bf16=False
)
DIFFUSION = DiffusionConfig(backbone=DiTConfig(patch=8, depth=1, heads=2, width=16), context=16, steps=1, batch=8)


def grained(count: int, seed: int) -> np.ndarray:
    """Return faint smooth pictures; all but every fifth have a grain, which the autoencoder cannot keep."""
    smooth = 128 + (textures(count, seed).astype(np.float64) - 128) * 0.4
    grain = np.where(np.arange(count) % 5, 40, 0)[:, None, None, None] * np.random.default_rng(seed).normal(
        size=smooth.shape
    )
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def held_out() -> np.ndarray:
    """Return unseen pictures, of which two resemble smooth training images, as near-duplicates in real data do."""
    images, train, places = grained(100, 2), grained(96, 1), np.array([0, 50])
    images[places] = 0.7 * train[places] + 0.3 * train[places + 5]
    return images


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with shards, an autoencoder and two generators, in its latents and in pixels."""
    place = tmp_path_factory.mktemp("latent")
    write_folder(place / "real", {"train": grained(96, 1), "validation": held_out()})
    for name in ("autoencoder", "pixels", "latent generator", "pixel generator", "s", "s2", "s3"):
        (place / name).mkdir()
    train_autoencoder(
        AUTOENCODER, place / "real", {}, place / "autoencoder", place / "s", place / "cache", CPU, Silent()
    )
    save_pixel_codec(place / "pixels", 32, [0.5] * 3, [0.2] * 3)
    for space, name, scratch in (("autoencoder", "latent generator", "s2"), ("pixels", "pixel generator", "s3")):
        train_diffusion(
            DIFFUSION, place / "real", place / space, place / name, place / scratch, place / "cache", CPU, Silent()
        )
    return place


@pytest.fixture(scope="module")
def made(home):
    """Return shards of reconstructions, every third of a training image, and {id: id of that image}."""
    codec = load_codec(home / "autoencoder", CPU)

    def shown(images: np.ndarray, seed: int) -> np.ndarray:
        x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        y = codec.decode(codec.encode(x)).permute(0, 2, 3, 1).numpy() * 255
        noise = np.random.default_rng(seed).integers(-1, 2, y.shape)
        return np.clip(np.rint(y) + noise, 0, 255).astype(np.uint8)

    images, train = shown(grained(60, 3), 0), shown(grained(96, 1), 1)
    places = [place for place in range(96) if place % 5][:20]
    images[::3] = train[places]
    out = write_folder(home / "made", {"train": images})
    return out, {f"train-{3 * number}": f"train-{place}" for number, place in enumerate(places)}


def search(home, made, scratch, diffusion):
    table = read_manifest(made).sort_values(["split", "shard", "key"]).reset_index(drop=True)
    scratch.mkdir()
    found = find_copies(
        CopiesConfig(), home / "real", made, table, {}, scratch, home / "cache", CPU, Silent(), diffusion
    )
    return {i: original for i, original in zip(table["id"], found, strict=True) if original is not None}


def test_copies_after_the_autoencoder_are_found_with_the_generator_at_hand(home, made, tmp_path):
    folder, planted = made
    found = search(home, folder, tmp_path / "latent", home / "latent generator")
    assert found == planted
    assert search(home, folder, tmp_path / "none", None) == {}, "they are too far from their originals"
    assert search(home, folder, tmp_path / "pixels", home / "pixel generator") == {}


def test_the_filter_drops_them(home, made, tmp_path):
    folder, planted = made
    save_untrained_scorer(tmp_path / "scorer")
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    config = FilteredSyntheticConfig(labels="conditional", rule="all")
    filter_synthetic(
        config, home / "real", folder, {"classifier/scorer/seed-0": tmp_path / "scorer"}, tmp_path / "out",
        tmp_path / "scratch", home / "cache", CPU, Silent(), home / "latent generator",
    )  # fmt: skip
    removed = pq.read_table(tmp_path / "out" / "removed.parquet").to_pandas()
    assert dict(zip(removed["id"], removed["copy_of"], strict=True)) == planted
    assert set(removed["reason"]) == {COPY}


def test_the_stage_responsibility_finds_them_too(home, made, tmp_path):
    folder, planted = made
    config = ResponsibilityStageConfig(
        memorisation=MemorisationConfig(cells=1), representation=RepresentationConfig(axes=[])
    )
    write_responsibility_report(
        config, home / "real", {"diffusion": folder}, folder, {}, None, tmp_path, home / "cache", CPU, Silent(),
        home / "latent generator",
    )  # fmt: skip
    copies = pq.read_table(tmp_path / "copies.parquet").to_pandas().query("confirmed and space == 'pca'")
    assert dict(zip(copies["id"], copies["training_id"], strict=True)) == planted
    assert copies["found"].map(lambda ways: "reconstruction" in ways and "pixels" not in ways).all()


def test_the_autoencoder_is_that_of_the_generator_where_it_makes_such_images(home, recorder):
    codec = codec_of(home / "latent generator", 32, CPU, recorder)
    images = open_images(home / "real", "validation", home / "cache")
    other = load_codec(home / "autoencoder", CPU)
    assert codec.identity == other.identity == load_generator(home / "latent generator", CPU).codec.identity
    x = images.batch(range(len(images)))
    expected = (other.decode(other.encode(x)) * 255).permute(0, 2, 3, 1).numpy()
    shown = reconstruct(codec, images, home / "cache", CPU, recorder).images
    assert abs(shown - expected).max() < 0.51
    assert codec_of(None, 32, CPU, recorder) is None
    assert codec_of(home / "pixel generator", 32, CPU, recorder) is None
    assert not recorder.notes
    assert codec_of(home / "latent generator", 64, CPU, recorder) is None
    assert recorder.notes == ["copies are not sought among reconstructions: those have 32 pixels, the images 64"]
