"""A cascade is a source like any other: real baselines at half size, enlarged, written as shards."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.generate.baselines.config import BaselinesConfig
from ops.generate.baselines.writing import fit_baseline
from ops.generate.cascade import Cascade, open_cascade
from ops.generate.low_resolution import shrink_pixels, write_small_shards
from ops.generate.shards import given, write_synthetic
from ops.generate.text import WIDTH
from ops.generate.upsampler import PARTS, build_upsampler
from ops.generate.upsampler_config import UpsamplerConfig, UpsamplingConfig
from ops.launching import Here
from ops.progress import Silent
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import plan_samples

CPU = torch.device("cpu")
SETTINGS = UpsamplingConfig(steps=2, level=0.05, batch=5, seed=3)
BASE = BaselinesConfig(min_images=10, seed=4)


@pytest.fixture(scope="module")
def home(shards, tmp_path_factory):
    """Return a folder with small shards, a plan, and an upsampler that is not trained (which draws bicubic with noise)."""
    home = tmp_path_factory.mktemp("cascade")
    for name in ("small", "plan", "upsampler", "cache"):
        (home / name).mkdir()
    write_small_shards(2, shards, home / "small", Silent())
    plan_samples(SamplingPlanConfig(multiple=0.25), shards, home / "plan", Silent())
    config = UpsamplerConfig(channels=[8, 8, 16], context=16, max_tokens=8)
    vocabularies = {"label": ["bar", "disc"], "domain": ["paper", "slate"], "tone": ["0", "1"]}
    model = build_upsampler(config, 32, vocabularies, WIDTH, 0.05, 1.0)
    for part in PARTS:
        getattr(model, part).save_pretrained(home / "upsampler" / part)
    (home / "upsampler" / "upsampler.json").write_text('{"size": 32, "factor": 2, "max_level": 0.5}')
    return home


@pytest.fixture
def rows(home):
    return pq.read_table(home / "plan" / "plan.parquet").to_pylist(maps_as_pydicts="strict")


@pytest.fixture
def open_base(home):
    images = open_images(home / "small", "train", home / "cache")
    return lambda kind, config=BASE: fit_baseline(kind, config, images, read_json(home / "small" / "dataset.json"))


@pytest.fixture
def open_it(home, rows):
    return lambda base, settings=SETTINGS: open_cascade(settings, base, home / "upsampler", CPU)


def test_small_shards_are_the_large_ones_shrunk(home, shards):
    large = open_images(shards, ["train", "test"], home / "cache")
    small = open_images(home / "small", ["train", "test"], home / "cache")
    assert np.array_equal(small.images, shrink_pixels(large.images, 2))
    same = ["id", "shard", "key", "label", "caption", "split", "weight", "phash"]
    assert small.table[same].equals(large.table[same])
    assert small.table["attributes"].tolist() == large.table["attributes"].tolist()
    assert set(small.table["width"]) == set(small.table["height"]) == {16}
    assert small.table["sha256"].is_unique
    assert read_json(home / "small" / "dataset.json")["image_size"] == 16


def test_small_shards_need_a_divisor(shards, folders):
    (out,) = folders("out")
    with pytest.raises(AmalgamError, match="no multiple of 5"):
        write_small_shards(5, shards, out, Silent())


def test_what_is_enlarged_is_what_the_base_draws(open_it, open_base, rows):
    base = open_base("bootstrap")
    settings = SETTINGS.model_copy(update={"level": 0.0, "steps": 8})
    large = open_it(base, settings).draw(rows, Silent())
    assert large.shape == (24, 32, 32, 3)
    again = shrink_pixels(large, 2).astype(float)
    small = base.draw(rows, Silent()).astype(float)
    assert np.abs(again - small).mean() < 8
    assert np.abs(again - small[::-1]).mean() > 16


def test_rows_are_drawn_independently(open_it, open_base, rows):
    cascade = open_it(open_base("gaussian"))
    whole = cascade.draw(rows, Silent()).astype(int)
    order = [20, 3, 11]
    part = cascade.draw([rows[i] for i in order], Silent()).astype(int)
    assert np.abs(part - whole[order]).max() <= 1


def test_the_identity_and_the_sampler_tell_of_both_stages(open_it, open_base):
    base = open_base("gaussian")
    cascade = open_it(base)
    assert cascade.identity != open_it(open_base("mixture")).identity
    assert len({cascade.identity, base.identity, cascade.upsampler.identity}) == 3
    assert cascade.sampler == {
        "base": {**base.sampler, "seed": 4},
        "upsampler": {
            "steps": 2,
            "solver": "heun",
            "guidance": 1.0,
            "rescale": 0.0,
            "interval": [0.0, 1.0],
            "clip": 1.0,
            "level": 0.05,
        },
    }
    assert (cascade.name, cascade.seed) == ("gaussian, enlarged", 3)


def test_a_base_of_another_size_is_refused(open_it, shards, home, rows):
    large = open_images(shards, "train", home / "cache")
    base = fit_baseline("bootstrap", BASE, large, read_json(shards / "dataset.json"))
    with pytest.raises(AmalgamError, match=r"32 x 32 x 3, .* enlarge 16 x 16 x 3"):
        open_it(base).draw(rows, Silent())


def test_a_cascade_fills_shards_that_can_be_made_alone(open_it, open_base, rows, home, shards, folders):
    out, again, scratch = folders("out", "again", "scratch")
    cascade: Cascade = open_it(open_base("mixture"))
    dataset = read_json(shards / "dataset.json")
    write_synthetic(given(cascade), rows, dataset, out, scratch, 10, Here(CPU), Silent())
    (scratch / "train-000001.tar").unlink()
    write_synthetic(given(cascade), rows, dataset, again, scratch, 10, Here(CPU), Silent())
    assert content_hash(again) == content_hash(out)
    made = pq.read_table(out / "manifest.parquet").to_pylist(maps_as_pydicts="strict")
    assert {row["width"] for row in made} == {32}
    assert json.loads(made[0]["provenance"])["sampler"] == json.loads(json.dumps(cascade.sampler))
