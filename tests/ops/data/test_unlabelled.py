"""Images without a label: from a user's table to shards, out of the way of everything that counts classes."""

import json
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ops.data.config import CuratedManifestConfig, ManifestConfig, RawImagesConfig, RealShardsConfig
from ops.data.curation import curate_manifest
from ops.data.expectations import check_manifest
from ops.data.loading import open_images, open_with_unlabelled
from ops.data.manifest import build_manifest, read_manifest
from ops.data.shards import write_real_shards
from ops.data.sources import ingest_images
from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.progress import Silent
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import plan_samples

MANIFEST = ManifestConfig(shift_domains=[], attribute="sex", near_values_per_concept=0)


def write_user(folder, free=8, split=None, kind="csv", **changes):
    """Write 40 labelled pictures and `free` without a label, of which every other has no domain and no sex."""
    rng, rows = np.random.default_rng(1), []
    for number in range(40 + free):
        told = number < 40
        pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        known = told or number % 2
        rows.append(
            {
                "file": f"{number:02d}.png",
                "label": ["bird", "crab"][number % 2] if told else None,
                "domain": ("clinic" if told else "elsewhere") if known else None,
                "sex": "fm"[number // 2 % 2] if known else None,
                "split": (split or (lambda n: None))(number) if told else "unlabelled",
                **{key: value if number == 47 else None for key, value in changes.items()},
            }
        )
    table = pd.DataFrame(rows)
    if kind == "csv":
        table.to_csv(folder / "table.csv", index=False)
    else:
        table.to_parquet(folder / "table.parquet")
    return table


def lineage(home, source, copies=()):
    """Run everything from raw files to shards; `copies` are pairs of files, the second of which becomes the first."""
    for one, other in copies:
        (source / f"{other:02d}.png").write_bytes((source / f"{one:02d}.png").read_bytes())
    for name in ("raw", "manifest", "curated", "real_shards"):
        (home / name).mkdir(parents=True)
    ingest_images(RawImagesConfig(dataset="mine", shard_size=17), source, home / "raw", Silent())
    build_manifest(MANIFEST, home / "raw", home / "manifest", Silent())
    curate_manifest(
        CuratedManifestConfig(min_class_images=1), home / "manifest", home / "raw", home / "curated", Silent()
    )
    write_real_shards(RealShardsConfig(shard_size=5), home / "curated", home / "raw", home / "real_shards", Silent())
    return home


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folders of a lineage with unlabelled images, and of one that differs in having none."""
    with_, without = tmp_path_factory.mktemp("with"), tmp_path_factory.mktemp("without")
    for home, free in ((with_, 8), (without, 0)):
        (home / "mine").mkdir()
        write_user(home / "mine", free)
        lineage(home, home / "mine")
    return with_, without


def test_unlabelled_images_come_through_with_what_is_known_of_them(made):
    table = read_manifest(made[0] / "real_shards")
    mine = table[table["split"] == "unlabelled"].set_index("id")
    assert sorted(mine.index) == [f"{n}.png" for n in range(40, 48)]
    assert set(mine["label"]) == {None}
    assert mine.loc["41.png", ["domain", "attributes"]].tolist() == ["elsewhere", {"sex": "f"}]
    assert mine.loc["42.png", ["domain", "attributes"]].tolist() == [None, {"sex": None}]
    assert set(mine["caption"]) == {""}
    with tarfile.open(made[0] / "real_shards" / mine["shard"].iloc[0]) as tar:
        records = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]
    assert [record["label"] for record in records] == [None] * 5
    dataset = read_json(made[0] / "real_shards" / "dataset.json")
    assert (dataset["classes"], dataset["domains"]) == (["bird", "crab"], ["clinic", "elsewhere"])
    assert dataset["attributes"] == {"sex": ["f", "m"]}


def test_labelled_images_are_what_they_are_without_them(made):
    """Splits, weights, captions and the bytes of every shard; and so is a plan, in every row."""
    one, other = (read_manifest(home / "real_shards") for home in made)
    pd.testing.assert_frame_equal(one[one["label"].notna()].reset_index(drop=True), other, check_dtype=False)
    for name in sorted(set(other["shard"])):
        assert (made[0] / "real_shards" / name).read_bytes() == (made[1] / "real_shards" / name).read_bytes()
    for home in made:
        (home / "plan").mkdir()
        config = SamplingPlanConfig.model_validate({"strategy": {"kind": "attribute_balanced", "attributes": ["sex"]}})
        plan_samples(config, home / "real_shards", home / "plan", Silent())
    parts = [[(home / "plan" / name).read_bytes() for name in ("plan.parquet", "cells.parquet")] for home in made]
    assert parts[0] == parts[1]


def test_only_who_asks_for_them_gets_them(made, tmp_path):
    shards, without = (home / "real_shards" for home in made)
    with pytest.raises(AmalgamError, match=r"8 images of real_shards in train, unlabelled have no label"):
        open_images(shards, ["train", "unlabelled"], tmp_path)
    train, both = open_images(shards, "train", tmp_path), open_with_unlabelled(shards, "train", tmp_path)
    assert both.labels.tolist() == [*train.labels, *[-1] * 8]
    np.testing.assert_array_equal(both.images[: len(train)], train.images)
    same = open_with_unlabelled(without, "train", tmp_path)
    np.testing.assert_array_equal(same.labels, open_images(without, "train", tmp_path).labels)


def test_the_contract_holds_and_a_missing_label_elsewhere_breaks_it(made, tmp_path):
    outcomes = {each.name: each for each in check_manifest(made[0] / "curated")}
    assert [name for name, each in outcomes.items() if not each.success] == []
    assert "no unlabelled image is of a concept of validation or test" in outcomes
    broken = tmp_path / "curated"
    broken.mkdir()
    (broken / "dataset.json").write_bytes((made[0] / "curated" / "dataset.json").read_bytes())
    table = pd.read_parquet(made[0] / "curated" / "manifest.parquet")
    first = table.index[table["split"] == "train"][0]
    evaluated = table.loc[table["split"] == "test", "concept"].iloc[0]
    table.loc[first, "label"] = None
    table.loc[table["id"] == "41.png", "label"] = "bird"
    table.loc[table["id"] == "42.png", "concept"] = evaluated
    table.to_parquet(broken / "manifest.parquet")
    failed = {each.name: each for each in check_manifest(broken) if not each.success}
    contract = failed["all images have a label but the unlabelled ones"]
    assert (contract.severity, set(contract.failed_ids)) == ("critical", {table.loc[first, "id"], "41.png"})
    assert failed["no unlabelled image is of a concept of validation or test"].failed_ids == ["42.png"]


def test_copies_of_labelled_images_go_and_others_share_a_weight(tmp_path):
    def roles(number):
        return "train" if number < 30 else "validation" if number < 35 else "test"

    (tmp_path / "mine").mkdir()
    write_user(tmp_path / "mine", split=roles)
    copies = [(0, 40), (31, 41), (36, 42), (43, 44), (43, 45)]
    home = lineage(tmp_path / "made", tmp_path / "mine", copies)
    removed = pd.read_parquet(home / "curated" / "removed.parquet").set_index("id")["reason"].to_dict()
    assert removed == {
        "40.png": "duplicate of 00.png (train)",
        "41.png": "duplicate of 31.png (validation)",
        "42.png": "duplicate of 36.png (test)",
    }
    weights = read_manifest(home / "curated").set_index("id")["weight"]
    assert weights[["43.png", "44.png", "45.png"]].tolist() == pytest.approx([1 / 3] * 3)
    assert (weights.drop(["43.png", "44.png", "45.png"]) == 1).all()


def test_an_unlabelled_image_keeps_its_own_caption(tmp_path):
    (tmp_path / "mine").mkdir()
    write_user(tmp_path / "mine", caption="a blurred slide, ask me@clinic.org")
    home = lineage(tmp_path / "made", tmp_path / "mine")
    captions = read_manifest(home / "real_shards").set_index("id")["caption"]
    assert captions["47.png"] == "a blurred slide, ask"
    assert captions["46.png"] == ""


def test_a_parquet_table_with_nulls_is_as_good_as_a_csv_file(made, tmp_path):
    source, raw = tmp_path / "mine", tmp_path / "raw"
    for folder in (source, raw):
        folder.mkdir()
    write_user(source, kind="parquet")
    ingest_images(RawImagesConfig(dataset="mine", shard_size=17), source, raw, Silent())
    assert content_hash(raw) == content_hash(made[0] / "raw")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "bird"}, r"41\.png is in the split unlabelled, but has the label 'bird'"),
        ({"split": "train"}, r"41\.png has no label"),
        ({"split": ""}, r"41\.png has no label"),
    ],
)
def test_a_label_that_is_missing_or_too_much_is_an_error(tmp_path, change, words):
    source, raw = tmp_path / "mine", tmp_path / "raw"
    for folder in (source, raw):
        folder.mkdir()
    table = write_user(source)
    for key, value in change.items():
        table.loc[table["file"] == "41.png", key] = value
    table.to_csv(source / "table.csv", index=False)
    with pytest.raises(AmalgamError, match=words):
        ingest_images(RawImagesConfig(dataset="mine"), source, raw, Silent())
