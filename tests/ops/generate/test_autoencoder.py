"""Training of the autoencoder: each term takes part, kills leave no trace, given weights are taken, bad input is named."""

import numpy as np
import pytest
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.autoencoder import build_autoencoder, train_autoencoder
from ops.generate.autoencoder_training import reconstruction_error
from ops.generate.codec import load_autoencoder, load_codec
from ops.generate.config import AdversarialConfig, AutoencoderConfig
from ops.generate.shipping import receive, ship, write_record
from ops.generate.training import check_finite
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture
from ops.progress import Silent
from ops.resume import Checkpoint

CPU = torch.device("cpu")
CONFIG = AutoencoderConfig(
    channels=[8, 16], latent_channels=4, steps=6, batch=4, lr=0.004, perceptual_weight=0.0, bf16=False
)
ADVERSARY = AdversarialConfig(weight=0.5, start=3, channels=[8, 8])


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Two untrained classifiers: their eyes are as good as any for seeing whether they are asked."""
    home = tmp_path_factory.mktemp("judges")
    architecture = Architecture(family="preact_resnet", widths=[8, 16], blocks=[1, 1])
    numbers = {"mean": [0.5] * 3, "std": [0.25] * 3}
    for seed in (0, 1):
        card = ModelCard(
            name="eye",
            architecture=architecture,
            classes=["bar", "disc"],
            image_size=32,
            seed=seed,
            ancestor="",
            **numbers,
        )
        save_classifier(home / str(seed), build_classifier(architecture, 2, **numbers, seed=seed), card)
    return {f"eye/{seed}": home / str(seed) for seed in (0, 1)}


@pytest.fixture(scope="module")
def train(shards, tmp_path_factory):
    """Return a function that trains into a folder of that name, once."""
    home = tmp_path_factory.mktemp("autoencoders")

    def run(config, tag, judges=None, monitor=None, start=None):
        out, scratch = home / f"out-{tag}", home / f"scratch-{tag}"
        if not out.exists():
            out.mkdir()
            scratch.mkdir(exist_ok=True)
            try:
                train_autoencoder(config, shards, judges or {}, out, scratch, home, CPU, monitor or Silent(), start)
            except BaseException:
                out.rmdir()
                raise
        return out

    return run


def changed(**values):
    return CONFIG.model_copy(update=values)


def test_a_killed_training_with_every_term_ends_with_the_same_bytes(train, judges, recorder_type, monkeypatch):
    """Kills before and after the adversary joins; judges take turns by step, so that they resume in turn too."""
    monkeypatch.setattr(Checkpoint, "step", lambda self, done: self.save(done) if done % 2 == 0 else None)
    config = changed(perceptual_weight=0.5, adversarial=ADVERSARY)
    whole = files(train(config, "whole", judges, recorder_type()))
    for stop in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            train(config, f"killed-{stop}", judges, recorder_type(stop_after=stop))
        resumed = recorder_type()
        assert files(train(config, f"killed-{stop}", judges, resumed)) == whole
        assert resumed.calls == 6 - stop // 2 * 2


def test_each_term_takes_part(train, judges):
    """Weights differ as soon as a term has a weight, and its curve is drawn."""
    plain = files(train(CONFIG, "plain"))["model/diffusion_pytorch_model.safetensors"]
    for name, config in {
        "edges": changed(edge_weight=0.0),
        "KL": changed(kl_weight=1e-2),
        "perceptual": changed(perceptual_weight=0.5),
        "adversarial": changed(adversarial=ADVERSARY),
    }.items():
        found = files(train(config, name, judges))["model/diffusion_pytorch_model.safetensors"]
        assert found != plain, name


def test_judges_only_measure_where_the_perceptual_term_is_off(train, judges):
    plain, watched = train(CONFIG, "plain"), train(CONFIG, "watched", judges)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (plain / "model" / name).read_bytes() == (watched / "model" / name).read_bytes()
    name = "validation perceptual distance"
    assert name not in read_json(plain / "metrics.json")
    assert read_json(watched / "metrics.json")[name] > 0


def test_the_adversary_joins_at_its_step(train, recorder_type):
    """Until then nothing differs; a start beyond the end is said aloud."""
    late = changed(adversarial=ADVERSARY.model_copy(update={"start": 6}))
    monitor = recorder_type()
    assert files(train(late, "late", monitor=monitor)) == files(train(CONFIG, "plain"))
    assert any("never takes part" in note for note in monitor.notes)
    monitor = recorder_type()
    train(changed(adversarial=ADVERSARY), "early", monitor=monitor)
    assert {step: "discriminator_loss" in values for step, values in monitor.points} == {0: False, 5: True}


def test_the_error_is_what_it_says():
    x, y = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    y[:, :, 1, 2] = 0.5  # one of 16 pixels: two differences of 12 in each direction
    parts = reconstruction_error(changed(edge_weight=0.25), None, x, y)
    assert float(parts["pixels"]) == pytest.approx((0.5 + 2 * 0.25) / 16)
    assert float(parts["edges"]) == pytest.approx(0.25 * 2 * (2 * 0.5 / 12))
    assert "edges" not in reconstruction_error(changed(edge_weight=0.0), None, x, y)


def test_given_weights_are_taken_as_they_are_or_trained_on(train):
    """Weights whose latents are normal keep their identity, also after a journey in half precision."""
    first = train(changed(steps=40), "first")
    same = train(CONFIG, "same", start=first)
    assert load_codec(same, CPU).identity == load_codec(first, CPU).identity
    ship(load_autoencoder(first, CPU), first.parent / "shipped" / "model")
    shipped = first.parent / "shipped"
    taken = train(CONFIG, "taken", start=shipped)
    for a, b in zip(*(load_autoencoder(f, CPU).state_dict().values() for f in (taken, shipped)), strict=True):
        assert torch.equal(a, b)
    before = read_json(taken / "metrics.json")["validation PSNR (dB)"]
    tuned = train(changed(finetune_steps=40), "tuned", start=shipped)
    assert read_json(tuned / "metrics.json")["validation PSNR (dB)"] > before + 0.5
    text = (tuned / "model" / "config.json").read_text() + (taken / "model" / "config.json").read_text()
    assert str(first.parent) not in text


def same_weights(one, other) -> bool:
    states = [load_autoencoder(folder, CPU).state_dict() for folder in (one, other)]
    return all(torch.equal(*pair) for pair in zip(*(state.values() for state in states), strict=True))


def test_shipped_weights_are_used_only_where_they_learnt_the_same_images(train, shards, tmp_path, recorder):
    first = train(changed(steps=40), "first")
    shipped = tmp_path / "shipped"
    ship(load_autoencoder(first, CPU), shipped / "model")
    images = open_images(shards, "train", tmp_path)
    write_record(shipped, images, "40 steps of a test")
    taken = train(CONFIG, "taken", start=shipped, monitor=recorder)
    assert same_weights(taken, shipped)
    assert recorder.notes == []
    write_record(shipped, images.subset(np.arange(90)), "of fewer images")
    scratch = train(CONFIG, "scratch", start=shipped, monitor=recorder)
    assert recorder.notes == ["the shipped autoencoder is not used: it learnt from other images"]
    assert same_weights(scratch, train(CONFIG, "plain"))
    assert not same_weights(scratch, shipped)


def test_given_weights_with_other_latents_are_normalised_without_a_step(train, shards, tmp_path):
    model = build_autoencoder(CONFIG, 32)
    with torch.no_grad():
        model.quant_conv.bias[:4] += 3
    model.save_pretrained(tmp_path / "model")
    codec = load_codec(train(CONFIG, "normal", start=tmp_path), CPU)
    z = codec.encode(open_images(shards, "train", tmp_path).batch(np.arange(96)))
    torch.testing.assert_close(z.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


def test_given_weights_of_another_architecture_are_refused(train, tmp_path):
    first = train(CONFIG, "plain")
    with pytest.raises(AmalgamError, match=r"out-plain is of another architecture: its latent_channels is 4, not 3"):
        train(changed(latent_channels=3), "other", start=first)
    with pytest.raises(AmalgamError, match=r"its block_out_channels is \[8, 16\], not \[16, 16\]"):
        train(changed(channels=[16, 16]), "other", start=first)
    with pytest.raises(AmalgamError, match="no autoencoder in absent"):
        train(CONFIG, "other", start=tmp_path / "absent")


def test_pixel_space_keeps_every_pixel(train, recorder, judges, tmp_path):
    out = train(changed(space="pixel"), "pixel", judges, recorder, start=tmp_path)
    codec, figures = load_codec(out, CPU), read_json(out / "metrics.json")
    assert codec.latent == (3, 32, 32)
    assert sorted(files(out)) == ["metrics.json", "pictures/reconstructions.png", "pixels.json"]
    assert figures["validation PSNR (dB)"] == 100
    assert figures["validation SSIM"] == 1
    assert figures["validation perceptual distance"] == 0
    assert any("not used" in note for note in recorder.notes)


def test_a_loss_that_is_no_number_names_step_and_images(train):
    with pytest.raises(
        AmalgamError, match=r"autoencoder is nan at step \d, on images real-train-\d+, real-train-\d+"
    ) as e:
        train(changed(lr=1e25, batch=4), "diverges")
    assert "autoencoder.lr" in e.value.remedy
    with pytest.raises(AmalgamError, match=r"on images 0, .*, 15 and 4 more\n"):
        check_finite(float("inf"), "x", 3, [str(n) for n in range(20)])


def test_a_perceptual_term_needs_a_judge(train):
    with pytest.raises(AmalgamError, match="needs a classifier"):
        train(changed(perceptual_weight=0.5), "blind")


def test_sides_must_be_divisible(train):
    with pytest.raises(AmalgamError, match="32x32 pixels cannot be made 64 times smaller"):
        train(changed(channels=[8] * 7), "deep")


def test_shipped_networks_are_half_the_bytes_and_nearly_the_same(tmp_path):
    model = build_autoencoder(CONFIG, 32)
    model.save_pretrained(tmp_path / "whole")
    ship(model, tmp_path / "half")
    assert model.dtype == torch.float32
    name = "diffusion_pytorch_model.safetensors"
    assert (tmp_path / "half" / name).stat().st_size < 0.6 * (tmp_path / "whole" / name).stat().st_size
    back = receive(type(model), tmp_path / "half")
    assert back.dtype == torch.float32
    assert (tmp_path / "half" / "config.json").read_bytes() == (tmp_path / "whole" / "config.json").read_bytes()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, atol=1e-6, rtol=1e-3)
    ship(back, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "half")
    with torch.no_grad():
        model.quant_conv.bias[0] = 1e5
    with pytest.raises(AmalgamError, match=r"quant_conv\.bias has values beyond 65504"):
        ship(model, tmp_path / "large")
    with pytest.raises(AmalgamError, match="no AutoencoderKL in nothing"):
        receive(type(model), tmp_path / "nothing")
