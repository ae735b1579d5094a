"""The report on synthetic images: acceptance adds up, and planted sources look as they are."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images
from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import read_measurements
from ops.files import read_json
from ops.progress import Silent
from ops.sample.acceptance import acceptance_rows, acceptance_table, outcomes_of
from ops.sample.config import FilteredSyntheticConfig
from ops.sample.filtering import filter_synthetic
from ops.sample.report import augmented, chosen_images, write_synthetic_report
from ops.sample.report_config import SyntheticReportConfig
from ops.train.augmentation.config import Augmentation
from tests.ops.conftest import make_shards
from tests.ops.sample.conftest import save_untrained_scorer

CPU = torch.device("cpu")
CONFIG = SyntheticReportConfig(spaces=["pca"], components=20, replicates=100, augmented=["crop and flip", "CutMix"])


@pytest.fixture(scope="module")
def home(shards, tmp_path_factory):
    """Return a folder with synthetic shards and what the filter keeps of them."""
    home = tmp_path_factory.mktemp("synthetic")
    make_shards(home / "synthetic", {"train": 80}, seed=5, source="synthetic")
    save_untrained_scorer(home / "scorer")
    for name in ("filtered", "scratch"):
        (home / name).mkdir()
    filter_synthetic(
        FilteredSyntheticConfig(labels="conditional", rule="topk_confidence", keep_share=0.6, copies=None), shards,
        home / "synthetic", {"classifier/scorer/seed-0": home / "scorer"}, home / "filtered", home / "scratch",
        home / "cache", CPU, Silent(),
    )  # fmt: skip
    return home


def test_every_planned_image_is_accepted_or_has_a_reason(home):
    outcomes = outcomes_of(home / "synthetic", home / "filtered", "tone")
    kept = set(read_manifest(home / "filtered")["id"])
    assert set(outcomes[outcomes["reason"] == ""]["id"]) == kept
    assert len(outcomes) == 80
    table = pd.DataFrame(acceptance_table(outcomes, "tone"))
    assert table["planned"].sum() == 80
    assert (table.drop(columns=["class", "tone", "planned"]).sum(axis=1) == table["planned"]).all()
    rows = pd.DataFrame(acceptance_rows(outcomes, "shapes", "tone", 1)).set_index(["group", "metric"])
    assert tuple(rows.loc[("all", "accepted"), ["value", "low", "high"]]) == wilson(len(kept), 80)
    cell = outcomes[(outcomes["class"] == "disc") & (outcomes["group"] == "1")]
    assert rows.loc[("class=disc, tone=1", "accepted"), "value"] == (cell["reason"] == "").mean()
    assert rows.loc[("class=disc, tone=1", "accepted"), "n"] == len(cell) == 20


def test_small_cells_have_no_rate_of_their_own(home):
    outcomes = outcomes_of(home / "synthetic", home / "filtered", "tone")
    groups = {each["group"] for each in acceptance_rows(outcomes, "shapes", "tone", 21)}
    assert groups == {"all", "class=bar", "class=disc", "tone=0", "tone=1"}


def test_recognised_is_what_the_scorer_says_of_kept_and_dropped_images(home):
    """Of kept images the provenance says it, of dropped ones `removed.parquet`."""
    outcomes = outcomes_of(home / "synthetic", home / "filtered", "tone").set_index("id")
    kept = read_manifest(home / "filtered")
    for identity, label, text in zip(kept["id"], kept["label"], kept["provenance"], strict=True):
        assert outcomes.loc[identity, "recognised"] == (json.loads(text)["pseudo label"] == label)
    removed = pq.read_table(home / "filtered" / "removed.parquet").to_pandas()
    for identity, condition, seen in zip(removed["id"], removed["condition"], removed["pseudo"], strict=True):
        assert outcomes.loc[identity, "recognised"] == (condition == seen)
    assert 0 < outcomes["recognised"].sum() < 80


def test_a_filter_of_other_images_is_refused(home, tmp_path):
    other = make_shards(tmp_path / "other", {"train": 8}, source="other")
    with pytest.raises(AmalgamError, match="other images"):
        outcomes_of(other, home / "filtered", "tone")


def test_planted_sources_look_as_they_are(home, shards, tmp_path, recorder):
    """A copyist of the pool has training neighbours only, and every image of every source has one neighbour."""
    train, held_out = (open_images(shards, split, tmp_path) for split in ("train", "validation"))
    pool = train.table["id"].to_numpy()[chosen_images(CONFIG, train, held_out, {})["pool"][1]]
    copyist = copy_of(shards, set(pool), tmp_path / "copyist")
    summary = write_synthetic_report(
        CONFIG, shards, home / "synthetic", home / "filtered", {"copyist": copyist}, {}, tmp_path, tmp_path / "cache",
        CPU, recorder,
    )  # fmt: skip
    rows = read_measurements(tmp_path).set_index(["model", "metric"])
    near_train = "nearest is a training image (pca)"
    assert rows.loc[("copyist", near_train), "value"] == 1
    assert rows.loc[("copyist", "evenness (pca)"), "value"] == 0
    count = rows.loc[("real", near_train), "n"]
    assert count == 32, "as many as there are held-out images"
    for name in ("real", "copyist", "filtered_synthetic", "CutMix"):
        kinds = rows.loc[name].filter(like="nearest is", axis=0)
        assert kinds["value"].sum() == pytest.approx(1)
    assert {line["source"] for line in summary.tables["complementarity"]} == set(rows.index.get_level_values(0))
    assert summary.figures["accepted"] == round(len(read_manifest(home / "filtered")) / 80, 4)
    for name in ("acceptance", "complementarity"):
        assert (tmp_path / "pictures" / f"{name}.png").stat().st_size > 4000


def copy_of(shards, ids, out):
    """Return shards with some of the same images, as a generator that repeats its training images makes."""
    out.mkdir()
    (out / "train").symlink_to(shards / "train")
    (out / "dataset.json").write_text((shards / "dataset.json").read_text())
    table = pq.read_table(shards / "manifest.parquet")
    pq.write_table(table.filter(pa.array(table["id"].to_pandas().isin(ids))), out / "manifest.parquet")
    assert len(read_manifest(out)) == len(ids)
    return out


def test_pool_and_real_are_different_training_images(shards, tmp_path):
    train, held_out = (open_images(shards, split, tmp_path) for split in ("train", "validation"))
    chosen = chosen_images(CONFIG, train, held_out, {})
    assert not set(chosen["pool"][1]) & set(chosen["real"][1])
    assert {len(places) for _, places in chosen.values()} == {32}
    other = chosen_images(CONFIG.model_copy(update={"seed": 1}), train, held_out, {})
    assert set(other["pool"][1]) != set(chosen["pool"][1])
    assert read_json(shards / "dataset.json")["groups"] == "tone"


def test_augmented_images_follow_from_the_seed_and_none_is_left_out():
    images = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
    flip = Augmentation(crop=0, flip=True)
    once, again, other = (augmented(images, flip, seed, 4) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    for image, changed in zip(images, once, strict=True):
        assert (changed == image).all() or (changed == image[:, ::-1]).all()
