"""The saved folder is a diffusers pipeline: saved, loaded elsewhere, asked with prompts."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.autoencoder import train_autoencoder
from ops.generate.codec import load_codec, save_pixel_codec
from ops.generate.config import AutoencoderConfig
from ops.generate.diffusion import train_diffusion
from ops.generate.launch import DiffusionJob, train_diffusion_in
from ops.generate.model_config import DDPMConfig, DiffusionConfig, DiTConfig, EDMConfig, UNetConfig
from ops.generate.pipeline import PromptPipeline, load_generator
from ops.generate.shipping import split_hash
from ops.generate.start import ship_generator
from ops.progress import Silent

CPU = torch.device("cpu")
UNET = UNetConfig(channels=[16, 32], head_width=8)
SMALL = DiffusionConfig(backbone=UNET, context=16, max_tokens=8, steps=6, batch=8)
PROMPTS = [{"caption": "a disc", "label": "disc"}, {"attributes": {"tone": "1"}}, {}]


@pytest.fixture(scope="module")
def home(shards, tmp_path_factory):
    """Return a folder with a trained autoencoder and a shared cache."""
    place = tmp_path_factory.mktemp("pipeline")
    for name in ("autoencoder", "s", "cache"):
        (place / name).mkdir()
    config = AutoencoderConfig(channels=[8, 16], latent_channels=4, steps=5, batch=8, perceptual_weight=0, bf16=False)
    train_autoencoder(config, shards, {}, place / "autoencoder", place / "s", place / "cache", CPU, Silent())
    return place


@pytest.fixture
def train(home, shards, tmp_path):
    """Return a function that trains a small generator in a new folder and returns the folder and what it said."""

    def run(config, autoencoder=None, start=None, tag="diffusion", monitor=None):
        out, scratch = tmp_path / tag, tmp_path / f"scratch-{tag}"
        out.mkdir()
        scratch.mkdir()
        space = autoencoder or home / "autoencoder"
        train_diffusion(config, shards, space, out, scratch, home / "cache", CPU, monitor or Silent(), start)
        return out

    return run


OBJECTIVES = {"flow": SMALL.objective, "edm": EDMConfig(), "ddpm": DDPMConfig()}


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("backbone", [UNET, DiTConfig(patch=4, depth=1, heads=2, width=16)], ids=lambda c: c.kind)
def test_a_plain_pipeline_loads_the_folder_and_makes_the_same_images(kind, backbone, train):
    out = train(SMALL.model_copy(update={"objective": OBJECTIVES[kind], "backbone": backbone}))
    index = read_json(out / "model" / "model_index.json")
    assert index["_class_name"] == "PromptPipeline"
    assert not list((out / "model").rglob("*.bin")), "no pickles"
    loaded = [
        PromptPipeline.from_pretrained(out / "model", use_safetensors=True, low_cpu_mem_usage=False) for _ in range(2)
    ]
    loaded[0].set_progress_bar_config(disable=True)
    first, second = (pipe(PROMPTS, seed=3, steps=2, guidance=2.0, output_type="np").images for pipe in loaded)
    assert first.shape == (3, 32, 32, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    pictures = loaded[0](PROMPTS, seed=3, steps=2, guidance=2.0).images
    assert [picture.size for picture in pictures] == [(32, 32)] * 3
    other = loaded[0](PROMPTS, seed=4, steps=2, guidance=2.0, output_type="np").images
    assert (other != first).any()
    with pytest.raises(AmalgamError, match="'square'"):
        loaded[0]([{"label": "square"}])


def test_another_process_makes_the_same_images(train):
    out = train(SMALL)
    code = (
        "import sys, numpy as np; from ops.generate.pipeline import PromptPipeline;"
        "pipe = PromptPipeline.from_pretrained(sys.argv[1], low_cpu_mem_usage=False);"
        "np.save(sys.argv[2], pipe([{'caption': 'a disc'}], seed=1, steps=2, output_type='np').images)"
    )
    subprocess.run([sys.executable, "-c", code, out / "model", out / "there.npy"], check=True, capture_output=True)
    here = PromptPipeline.from_pretrained(out / "model", low_cpu_mem_usage=False)
    images = here([{"caption": "a disc"}], seed=1, steps=2, output_type="np").images
    there = np.load(out / "there.npy", allow_pickle=False)
    assert abs(images.astype(int) - there.astype(int)).max() <= 1, "rounding at most"


def test_it_works_in_pixels(train, tmp_path):
    (tmp_path / "pixels").mkdir()
    save_pixel_codec(tmp_path / "pixels", 32, [0.5, 0.4, 0.3], [0.2, 0.2, 0.3])
    out = train(SMALL, tmp_path / "pixels")
    source = load_generator(out, CPU)
    assert source.codec.latent == (3, 32, 32)
    assert source.codec.identity == load_codec(tmp_path / "pixels", CPU).identity
    assert not (out / "model" / "vae").exists()


def test_training_goes_on_from_a_shipped_generator_of_the_same_images(train, shards, home, tmp_path, recorder_type):
    before = train(SMALL)
    ship_generator(before, tmp_path / "shipped", "a study")
    config = SMALL.model_copy(update={"finetune_steps": 0})
    monitor = recorder_type()
    after = train(config, start=tmp_path / "shipped", tag="after", monitor=monitor)
    assert "shipped (a study)" in read_json(after / "generator.json")["lineage"]
    found, expected = (load_generator(folder, CPU).model.state_dict() for folder in (after, before))
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name].half().float(), rtol=0, atol=0)
    images = open_images(shards, "train", home / "cache")
    assert read_json(tmp_path / "shipped" / "generator.json")["training split"] == split_hash(images)


@pytest.mark.parametrize(
    ("change", "reason"),
    [("training split", "other images"), ("codec", "other latents"), ("network", "another network")],
)
def test_a_shipped_generator_of_anything_else_is_not_used(change, reason, train, tmp_path, recorder_type):
    """Training begins from scratch, to the same weights as without it, and says why."""
    before = train(SMALL)
    ship_generator(before, tmp_path / "shipped", "a study")
    config = SMALL
    if change == "network":
        config = SMALL.model_copy(update={"context": 24})
    else:
        record = read_json(tmp_path / "shipped" / "generator.json")
        write_json(tmp_path / "shipped" / "generator.json", {**record, change: "0" * 64})
    monitor = recorder_type()
    after = train(config, start=tmp_path / "shipped", tag="after", monitor=monitor)
    assert any(reason in note for note in monitor.notes)
    assert reason in read_json(after / "generator.json")["lineage"]
    if change != "network":
        assert load_generator(after, CPU).identity == load_generator(before, CPU).identity


def test_a_folder_without_a_generator_is_named(tmp_path):
    with pytest.raises(AmalgamError, match="no generator"):
        load_generator(tmp_path, CPU)


def test_two_processes_learn_what_one_does(shards, home, tmp_path, recorder_type):
    """The same losses with the same batches, to the rounding of sums; parts of a batch must be equal."""
    curves = {}
    for processes in (1, 2):
        out, scratch = tmp_path / f"out-{processes}", tmp_path / f"scratch-{processes}"
        out.mkdir()
        scratch.mkdir()
        job = DiffusionJob(
            config=SMALL,
            shards=shards,
            autoencoder=home / "autoencoder",
            start=None,
            out=out,
            scratch=scratch,
            cache=home / "cache",
            device="cpu",
        )
        monitor = recorder_type()
        train_diffusion_in(processes, job, monitor)
        curves[processes] = [values["loss"] for _, values in monitor.points]
    assert curves[2] == pytest.approx(curves[1], rel=1e-4)
    one, two = (load_generator(tmp_path / f"out-{n}", CPU).model.state_dict() for n in (1, 2))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    fresh = tmp_path / "scratch-uneven"  # a training that is finished shares nothing any more
    fresh.mkdir()
    uneven = job.model_copy(update={"config": SMALL.model_copy(update={"batch": 9}), "scratch": fresh})
    with pytest.raises(AmalgamError, match="cannot be shared"):
        train_diffusion_in(2, uneven, recorder_type())
