"""What holds of every baseline as a source, and of the shards it fills."""

import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.generate.baselines import baseline, gaussian, mixture
from ops.generate.baselines.baseline import on_grid
from ops.generate.baselines.config import BaselinesConfig, BootstrapConfig, MixtureConfig
from ops.generate.baselines.writing import fit_baseline, write_baselines
from ops.progress import Silent
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import plan_samples

KINDS = ["gaussian", "mixture", "bootstrap"]
CONFIG = BaselinesConfig(min_images=10, bootstrap=BootstrapConfig(flip=True, crop=1))


@pytest.fixture
def some(images_of, mid_grey):
    labels, tones = np.repeat([0, 1], 40), np.tile(["0", "1"], 40)
    return images_of(np.concatenate([mid_grey(40), mid_grey(40, seed=1) // 2]), labels=labels, tones=tones)


@pytest.fixture(scope="module")
def plan(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    plan_samples(SamplingPlanConfig(multiple=0.5), shards, folder, Silent())
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_does_not_depend_on_what_is_drawn_with_it(kind, some, dataset, plan_rows):
    """To the bit, for any batch in any order: sums do not depend on how a library blocks them."""
    source = fit_baseline(kind, CONFIG, some, dataset)
    rows = [*plan_rows(range(0, 30), "bar", "0"), *plan_rows(range(30, 50), "disc", "1")]
    whole = source.draw(rows, Silent())
    assert len(np.unique(whole.reshape(50, -1), axis=0)) > 20

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 49), min_size=1, max_size=50, unique=True))
    def check(order):
        assert np.array_equal(source.draw([rows[i] for i in order], Silent()), whole[order])

    check()


@pytest.mark.parametrize(("kind", "module"), [("gaussian", gaussian), ("mixture", mixture)])
def test_even_what_is_rounded_does_not_depend_on_the_batch(kind, module, images_of, mid_grey, dataset, monkeypatch):
    """Products are exact, so that no pixel is ever near enough to a half to be rounded another way."""
    monkeypatch.setattr(module, "to_bytes", lambda x, shape: x)
    source = fit_baseline(kind, BaselinesConfig(attribute=""), images_of(mid_grey(150, side=16)), dataset)

    def sample(numbers):
        return source.model.sample(("bar", ""), [np.random.default_rng(int(i)) for i in numbers])

    whole = sample(range(40))
    for part in (range(1), range(3, 10), range(39, 10, -1)):
        assert np.array_equal(sample(part), whole[list(part)])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_does_not_depend_on_how_work_is_cut(kind, some, dataset, plan_rows, monkeypatch):
    rows = plan_rows(range(60))
    whole = fit_baseline(kind, CONFIG, some, dataset).draw(rows, Silent())
    monkeypatch.setattr(baseline, "BLOCK", 48 * 7)
    monkeypatch.setattr(gaussian, "ROWS", 3)
    assert np.array_equal(fit_baseline(kind, CONFIG, some, dataset).draw(rows, Silent()), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_images_follow_the_seed_and_the_condition(kind, some, dataset, plan_rows):
    source = fit_baseline(kind, CONFIG, some, dataset)
    again = fit_baseline(kind, CONFIG, some, dataset)
    other = fit_baseline(kind, CONFIG.model_copy(update={"seed": 1}), some, dataset)
    bars, discs = plan_rows(range(40), "bar"), plan_rows(range(40), "disc")
    assert np.array_equal(source.draw(bars, Silent()), again.draw(bars, Silent()))
    assert not np.array_equal(source.draw(bars, Silent()), other.draw(bars, Silent()))
    assert source.draw(bars, Silent()).mean() == pytest.approx(128, abs=12)
    assert source.draw(discs, Silent()).mean() == pytest.approx(64, abs=8)
    assert source.draw(bars[:0], Silent()).shape == (0, 4, 4, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_tells_data_and_settings(kind, some, images_of, dataset):
    def identity(config=CONFIG, images=some):
        return fit_baseline(kind, config, images, dataset).identity

    heavier = images_of(some.images, some.labels, some.table["attribute:tone"], np.where(np.arange(80) == 3, 0.5, 1.0))
    names = {identity(), identity(CONFIG.model_copy(update={"seed": 3})), identity(images=heavier)}
    names.add(identity(CONFIG.model_copy(update={"attribute": ""})))
    assert len(names) == 4
    assert identity() in names
    assert all(len(name) == 64 for name in names)


def test_products_on_a_grid_do_not_depend_on_the_order_of_summation():
    rng = np.random.default_rng(0)
    z, x = on_grid(rng.normal(size=(5, 4000)) / 60, gaussian.BITS), rng.integers(0, 256, (4000, 9)).astype(float)
    order = rng.permutation(4000)
    assert np.array_equal(z @ x, z[:, order] @ x[order])
    exact = [[sum(int(a * 2**gaussian.BITS) * int(b) for a, b in zip(u, v, strict=True)) for v in x.T] for u in z]
    assert np.array_equal(z @ x, np.array(exact, float) / 2**gaussian.BITS)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_of_a_draw_is_that_of_its_images(kind, images_of, mid_grey, dataset, plan_rows, monkeypatch):
    """Eight times the rows: what is used beside the images stays."""
    monkeypatch.setattr(baseline, "BLOCK", 2**16)
    source = fit_baseline(kind, BaselinesConfig(attribute=""), images_of(mid_grey(200, side=16)), dataset)

    def beside(count: int) -> int:
        rows = plan_rows(range(count))
        tracemalloc.start()
        images = source.draw(rows, Silent())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - images.nbytes

    beside(200)  # what is imported or cached at first use
    assert beside(1600) < 1.5 * beside(200) + 300_000


def test_the_mixture_projects_in_blocks(some, dataset, plan_rows, monkeypatch):
    config = CONFIG.model_copy(update={"mixture": MixtureConfig(components=5, bandwidths=[0.5])})
    whole = fit_baseline("mixture", config, some, dataset).draw(plan_rows(range(20)), Silent())
    monkeypatch.setattr(mixture, "ROWS", 9)
    cut = fit_baseline("mixture", config, some, dataset).draw(plan_rows(range(20)), Silent())
    assert np.abs(cut.astype(int) - whole.astype(int)).max() <= 1


def test_shards_are_filled_and_what_fell_back_is_told(shards, plan, folders, recorder):
    out, scratch, cache = folders("out", "scratch", "cache")
    config = BaselinesConfig(min_images=25, images=30, shard_size=12)
    summary = write_baselines(config, shards, plan, out, scratch, cache, recorder)
    record = read_json(out / "baselines.json")
    assert set(record) == set(KINDS)
    rows = pq.read_table(plan / "plan.parquet").to_pylist(maps_as_pydicts="strict")[:30]
    for kind in KINDS:
        made = pq.read_table(out / kind / "manifest.parquet").to_pylist(maps_as_pydicts="strict")
        assert [(m["label"], m["attributes"]) for m in made] == [(r["label"], r["attributes"]) for r in rows]
        assert all(record[kind]["identity"] in m["provenance"] and m["source"] == "synthetic" for m in made)
        assert (out / "pictures" / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert "drawn" in read_json(out / kind / "dataset.json")["notes"]["synthetic"]
    # 24 training images in every cell: too few for a fit, enough to be redrawn
    assert summary.figures["gaussian, by class alone"] == 30
    assert summary.figures["bootstrap, by class alone"] == 0
    assert [note for note in recorder.notes if note.startswith("mixture: 30 of 30")]
    real = open_images(shards, "train", cache)
    drawn = open_images(out / "bootstrap", "train", cache)
    for image, row in zip(drawn.images, rows, strict=True):
        same = (real.images == image).all(axis=(1, 2, 3))
        cell = (real.table["label"] == row["label"]) & (real.table["attribute:tone"] == row["attributes"]["tone"])
        assert same.any()
        assert cell[same].all()


def test_a_killed_run_ends_with_the_same_bytes(shards, plan, folders, recorder_type):
    config = BaselinesConfig(kinds=["gaussian", "bootstrap"], shard_size=16)
    out, scratch, cache = folders("whole", "scratch", "cache")
    write_baselines(config, shards, plan, out, scratch, cache, Silent())
    killed, again, left = folders("killed", "again", "scratch-2")
    with pytest.raises(KeyboardInterrupt):
        write_baselines(config, shards, plan, killed, left, cache, recorder_type(stop_after=12))
    assert list(left.rglob("*.tar"))
    write_baselines(config, shards, plan, again, left, cache, Silent())
    assert content_hash(again) == content_hash(out)


def test_a_plan_for_what_training_never_showed_is_refused_before_any_fit(shard_maker, plan, folders, tmp_path):
    """A training split of a single image, a bar; the plan also asks for discs."""
    lonely = shard_maker(tmp_path / "lonely", {"train": 1})
    out, scratch, cache = folders("out", "scratch", "cache")
    with pytest.raises(AmalgamError, match="'disc' has no training images"):
        write_baselines(BaselinesConfig(), lonely, plan, out, scratch, cache, Silent())
    assert not list(out.iterdir())
