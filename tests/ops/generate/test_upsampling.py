"""The second stage of a cascade on drawn shapes: it learns, resumes to the byte, loads as saved, and enlarges by row."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.low_resolution import shrink_pixels
from ops.generate.text import WIDTH, encode_captions
from ops.generate.upsampler import PARTS, UpsamplingModel, build_upsampler, enlarge
from ops.generate.upsampler_config import UpsamplerConfig, UpsamplingConfig
from ops.generate.upsampler_training import measure_upsampler, train_upsampler
from ops.generate.upsampling import Upsampler, load_upsampler, upsample
from ops.progress import Silent
from ops.resume import Checkpoint

CPU = torch.device("cpu")
CONFIG = UpsamplerConfig(
    channels=[8, 8, 16], context=16, max_tokens=8, steps=40, batch=8, lr=0.01, validation_images=12
)
SETTINGS = UpsamplingConfig(steps=2, level=0.1, guidance=1.5, batch=5)
VOCABULARIES = {"label": ["bar", "disc"], "domain": ["paper", "slate"], "tone": ["0", "1"]}


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(count: int) -> list[dict]:
    return [
        {
            "index": 7 * i,
            "label": ["bar", "disc"][i % 2],
            "domain": "paper",
            "attributes": {"tone": str(i // 2 % 2)},
            "caption": f"a {['bar', 'disc'][i % 2]}",
        }
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(shards, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("upsampler")
    train_upsampler(CONFIG, shards, out, tmp_path_factory.mktemp("scratch"), cache, CPU, Silent())
    return out


@pytest.fixture
def text(cache):
    return encode_captions(["a bar", "a disc"], 8, cache, CPU, Silent())


@pytest.fixture
def small(shards, cache):
    return shrink_pixels(open_images(shards, "validation", cache).images[:10], 2)


def test_training_makes_enlargements_better_than_the_untrained_models(trained, shards, cache, folders):
    """Untrained, images are bicubic with noise; what was learnt is worth half a dB even in 40 steps of a tiny network."""
    (out,) = folders("out")
    figures = read_json(trained / "metrics.json")
    model = load_upsampler(trained, CPU)
    torch.nn.init.zeros_(model.model.unet.conv_out.weight)
    torch.nn.init.zeros_(model.model.unet.conv_out.bias)
    images = open_images(shards, "validation", cache)
    untrained = measure_upsampler(CONFIG, model, images, out, cache, CPU, Silent())
    assert figures["upsampled PSNR (dB)"] > untrained["upsampled PSNR (dB)"] + 0.5
    assert figures["bicubic PSNR (dB)"] == untrained["bicubic PSNR (dB)"]
    assert (trained / "pictures" / "upsampled.png").exists()


def test_a_killed_training_ends_with_the_same_bytes(trained, shards, cache, folders, recorder_type, monkeypatch):
    monkeypatch.setattr(Checkpoint, "step", lambda self, done: self.save(done) if done % 3 == 0 else None)
    config = CONFIG.model_copy(update={"steps": 8})

    def train(tag, monitor):
        out, scratch = folders(f"out-{tag}", f"scratch-{tag}")
        train_upsampler(config, shards, out, scratch, cache, CPU, monitor)
        return files(out)

    counting = recorder_type()
    whole = train("whole", counting)
    with pytest.raises(KeyboardInterrupt):
        train("killed", recorder_type(stop_after=7))
    resumed = recorder_type()
    assert train("killed", resumed) == whole
    assert resumed.calls == counting.calls - 6


def test_only_training_images_are_learnt_from(shards, shard_maker, cache, folders, tmp_path):
    """The same training split with other validation images gives the same weights."""
    config = CONFIG.model_copy(update={"steps": 2})
    made = []
    for tag, folder in (
        ("mine", shards),
        ("other", shard_maker(tmp_path / "other", {"train": 96, "validation": 14, "test": 2})),
    ):
        out, scratch = folders(f"out-{tag}", f"scratch-{tag}")
        train_upsampler(config, folder, out, scratch, cache, CPU, Silent())
        made.append([files(out / part) for part in PARTS])
    assert made[0] == made[1]


def test_a_loaded_model_computes_what_the_saved_one_did(tmp_path, text):
    model = build_upsampler(CONFIG, 32, VOCABULARIES, WIDTH, 0.25, 1.5)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    for part in PARTS:
        getattr(model, part).save_pretrained(tmp_path / part)
    (tmp_path / "upsampler.json").write_text('{"size": 32, "factor": 2, "max_level": 0.5}')
    loaded = load_upsampler(tmp_path, CPU)
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    before = replace(loaded, model=model.eval())
    made = [upsample(SETTINGS, each, images, rows_of(6), text, CPU, Silent()) for each in (before, loaded)]
    assert np.array_equal(*made)
    identities = {loaded.identity, load_upsampler(tmp_path, CPU).identity}
    model.level.register_to_config(clean=0.5)
    model.level.save_pretrained(tmp_path / "level")
    identities.add(load_upsampler(tmp_path, CPU).identity)
    with torch.no_grad():
        model.level.embed.linear_1.weight.add_(0.01)
    model.level.save_pretrained(tmp_path / "level")
    assert len(identities | {load_upsampler(tmp_path, CPU).identity}) == 3


def test_an_image_follows_from_its_row(trained, small, text):
    """Alone, in another order and in other batches: the same but for the rounding of sums; with another index, another."""
    upsampler, rows = load_upsampler(trained, CPU), rows_of(10)
    whole = upsample(SETTINGS, upsampler, small, rows, text, CPU, Silent())
    assert np.array_equal(whole, upsample(SETTINGS, upsampler, small, rows, text, CPU, Silent()))
    for order in ([7], [3, 2, 1, 0, 9, 8], list(range(9, -1, -1))):
        mine = upsample(SETTINGS, upsampler, small[order], [rows[i] for i in order], text, CPU, Silent())
        off = np.abs(mine.astype(int) - whole[order].astype(int))
        assert off.max() <= 1
        assert (off > 0).mean() < 0.001
    moved = [{**row, "index": row["index"] + 1} for row in rows]
    other = upsample(SETTINGS, upsampler, small, moved, text, CPU, Silent())
    assert (np.abs(other.astype(int) - whole.astype(int)) > 3).mean() > 0.2


class Certain(UpsamplingModel):
    """A model that is sure that the large image is the enlarged small one: its flow ends there exactly."""

    def forward(self, x, t, small, level, conditions):
        return (x - enlarge(small, x.shape[2])) / t.view(-1, 1, 1, 1)


@pytest.fixture
def certain():
    model = build_upsampler(CONFIG, 32, VOCABULARIES, WIDTH, 0.25, 1.5)
    return Upsampler(Certain(model.unet, model.conditioner, model.level), 32, 2, 0.5, "none")


def test_without_corruption_the_small_image_arrives_as_it_is(certain, small, text):
    """Scales and rounding: 8 bits to [-1, 1], enlarged, and back."""
    settings = SETTINGS.model_copy(update={"level": 0.0, "solver": "euler"})
    found = upsample(settings, certain, small, rows_of(10), text, CPU, Silent())
    x = torch.from_numpy(small).permute(0, 3, 1, 2).float()
    expected = enlarge(x, 32).clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(found - expected).max() < 0.51


def test_the_small_image_is_corrupted_by_the_level_that_is_asked_for(certain, text):
    """On grey the corrupted image is (1 - s) z + s e, enlarged: its deviation is s times that of enlarged noise."""
    grey = np.full((40, 16, 16, 3), 128, np.uint8)
    unit = float(enlarge(torch.randn(200, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 32).std())
    for level in (0.1, 0.2):
        settings = SETTINGS.model_copy(update={"level": level, "solver": "euler"})
        found = upsample(settings, certain, grey, rows_of(40), text, CPU, Silent())
        assert float(found.std()) == pytest.approx(127.5 * level * unit, rel=0.03)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), r"8 x 8 x 3, .* enlarge 16 x 16 x 3"),
        (np.zeros((2, 32, 32, 3), np.uint8), "32 x 32 x 3"),
        (np.full((2, 16, 16, 3), np.nan, np.float32), "float32"),
    ],
)
def test_images_that_cannot_be_enlarged_are_refused(certain, text, images, message):
    with pytest.raises(AmalgamError, match=message):
        upsample(SETTINGS, certain, images, rows_of(2), text, CPU, Silent())


def test_a_level_that_was_not_trained_is_refused(certain, small, text):
    settings = SETTINGS.model_copy(update={"level": 0.6})
    with pytest.raises(AmalgamError, match=r"up to 0\.5, not 0\.6"):
        upsample(settings, certain, small, rows_of(10), text, CPU, Silent())


def test_values_that_are_no_numbers_are_refused(trained, small, text):
    upsampler = load_upsampler(trained, CPU)
    upsampler.model.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(AmalgamError, match="no numbers"):
        upsample(SETTINGS, upsampler, small, rows_of(10), text, CPU, Silent())


def test_a_factor_that_does_not_divide_is_refused(shards, cache, folders):
    out, scratch = folders("out", "scratch")
    with pytest.raises(AmalgamError, match="no multiple of 3"):
        train_upsampler(CONFIG.model_copy(update={"factor": 3}), shards, out, scratch, cache, CPU, Silent())


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(AmalgamError, match="no upsampler in"):
        load_upsampler(tmp_path, CPU)


def test_a_domain_that_training_did_not_know_is_the_null(trained, shards, cache, folders, recorder):
    (out,) = folders("out")
    images = open_images(shards, "validation", cache)
    upsampler = load_upsampler(trained, CPU)
    chalk, crayon = (replace(images, table=images.table.assign(domain=name)) for name in ("chalk", "crayon"))
    found = [measure_upsampler(CONFIG, upsampler, each, out, cache, CPU, recorder) for each in (chalk, crayon)]
    assert found[0] == found[1] != read_json(trained / "metrics.json")
