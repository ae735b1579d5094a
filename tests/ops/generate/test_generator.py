"""The whole generator on drawn shapes: it learns, survives a kill with the same bytes, and refuses what does not fit."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images
from ops.data.shards import read_shard
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.autoencoder import load_autoencoder, train_autoencoder
from ops.generate.config import AutoencoderConfig
from ops.generate.diffusion import train_diffusion
from ops.generate.model_config import DiffusionConfig, UNetConfig
from ops.generate.pipeline import load_generator
from ops.generate.synthesis import generate_shards
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.generate.training import check_finite, draw_batch
from ops.launching import Here
from ops.resume import Checkpoint
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import plan_samples

CPU = torch.device("cpu")
AUTOENCODER = AutoencoderConfig(
    channels=[8, 16], latent_channels=4, steps=200, batch=16, lr=0.004, perceptual_weight=0, bf16=False
)
DIFFUSION = DiffusionConfig(
    backbone=UNetConfig(channels=[16, 32], head_width=8), context=16, max_tokens=8, steps=12, batch=16
)
SAMPLING = SyntheticShardsConfig(steps=2, batch=7, shard_size=9)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Quiet:
    def progress(self, *args, **kwargs): ...
    def metrics(self, *args): ...
    def note(self, *args): ...


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """Return the folders of a trained autoencoder, diffusion model, plan and synthetic shards."""
    home = tmp_path_factory.mktemp("generator")

    def folder(name):
        (home / name).mkdir()
        return home / name

    cache = folder("cache")
    train_autoencoder(AUTOENCODER, shards, {}, folder("autoencoder"), folder("s1"), cache, CPU, Quiet())
    train_diffusion(DIFFUSION, shards, home / "autoencoder", folder("diffusion"), folder("s2"), cache, CPU, Quiet())
    plan_samples(SamplingPlanConfig(multiple=0.25), shards, folder("plan"), Quiet())
    generate_shards(
        SAMPLING,
        home / "plan",
        home / "diffusion",
        folder("synthetic"),
        folder("s3"),
        Here(CPU),
        Quiet(),
    )
    return home


def test_the_autoencoder_reconstructs(trained, shards, folders):
    """Better than the best constant picture, by 4 dB; its latents have unit variance after scaling."""
    (cache,) = folders("cache")
    figures = read_json(trained / "autoencoder" / "metrics.json")
    images = open_images(shards, "validation", cache)
    x = images.batch(np.arange(32))
    constant = -10 * torch.log10(((x - x.mean(0)) ** 2).mean())
    assert figures["validation PSNR (dB)"] > float(constant) + 4
    model = load_autoencoder(trained / "autoencoder", CPU)
    train = open_images(shards, "train", cache).batch(np.arange(96)) * 2 - 1
    latents = model.encode(train).latent_dist.mean * model.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_a_killed_training_ends_with_the_same_bytes(kind, trained, shards, folders, recorder_type, monkeypatch):
    monkeypatch.setattr(Checkpoint, "step", lambda self, done: self.save(done) if done % 4 == 0 else None)
    short = AUTOENCODER.model_copy(update={"steps": 12})

    def train(tag, monitor):
        out, scratch, cache = folders(f"out-{tag}", f"scratch-{tag}", "cache")
        if kind == "autoencoder":
            train_autoencoder(short, shards, {}, out, scratch, cache, CPU, monitor)
        else:
            train_diffusion(DIFFUSION, shards, trained / "autoencoder", out, scratch, cache, CPU, monitor)
        return files(out)

    whole = train("whole", recorder_type())
    monitor = recorder_type()
    train("count", monitor)  # everything is cached by now: only training steps and latents report
    with pytest.raises(KeyboardInterrupt):
        train("killed", recorder_type(stop_after=monitor.calls - 4))
    resumed = recorder_type()
    assert train("killed", resumed) == whole
    assert resumed.calls < monitor.calls


def test_only_training_images_are_seen(trained, shards, folders, recorder, shard_maker, tmp_path):
    """The same training split with other test images gives the same generator."""
    other = shard_maker(tmp_path / "other", {"train": 96, "validation": 32, "test": 20})
    out, scratch, cache = folders("out", "scratch", "cache")
    train_diffusion(DIFFUSION, other, trained / "autoencoder", out, scratch, cache, CPU, recorder)
    assert files(out / "model") == files(trained / "diffusion" / "model")


def test_synthetic_shards_say_what_made_them(trained):
    manifest = pq.read_table(trained / "synthetic" / "manifest.parquet").to_pylist(maps_as_pydicts="strict")
    plan = pq.read_table(trained / "plan" / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    assert len(manifest) == len(plan) == 24
    generator = load_generator(trained / "diffusion", CPU)
    for number, (made, planned) in enumerate(zip(manifest, plan, strict=True)):
        assert made["source"] == "synthetic"
        assert made["split"] == "train"
        assert (made["label"], made["caption"]) == (planned["label"], planned["caption"])
        assert made["attributes"] == planned["attributes"]
        assert generator.identity in made["provenance"]
        assert f'"seed": [0, {number}]' in made["provenance"]
    found = [key for p in sorted((trained / "synthetic" / "train").glob("*.tar")) for key, _ in read_shard(p)]
    assert found == [row["key"] for row in manifest]


def test_a_shard_is_made_again_alone(trained, folders, recorder):
    """Finished shards are kept; a lost one comes back byte for byte."""
    out, scratch = folders("out", "scratch")
    for path in sorted((trained / "synthetic" / "train").glob("*.tar")):
        (scratch / path.name).write_bytes(path.read_bytes())
    (scratch / "train-000001.tar").unlink()
    generate_shards(SAMPLING, trained / "plan", trained / "diffusion", out, scratch, Here(CPU), recorder)
    assert files(out) == files(trained / "synthetic")


def test_artefacts_name_no_folder_of_this_machine(trained):
    for stage in ("autoencoder", "diffusion"):
        for path in (trained / stage).rglob("*.json"):
            assert str(trained) not in path.read_text(), path.relative_to(trained)


def test_batches_follow_the_weights():
    weights = np.array([1.0, 3.0, 0.0, 4.0])
    drawn = np.bincount(draw_batch(weights, 80_000, "x"), minlength=4) / 80_000
    np.testing.assert_allclose(drawn, weights / 8, atol=0.01)
    assert drawn[2] == 0


def test_a_loss_that_is_no_number_names_the_setting():
    with pytest.raises(AmalgamError, match="step 7") as error:
        check_finite(float("nan"), "diffusion", 7)
    assert "diffusion.lr" in error.value.remedy
