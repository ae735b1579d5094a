"""Outputs are withheld by the very filters of curation, and by a safety classifier where there is one."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ops.data.config import CuratedManifestConfig
from ops.data.curation import curate_manifest
from ops.data.loading import ImageSet, open_images
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.pictures import png
from ops.data.shards import finish_shard_folder, write_shard
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.responsibility.config import SafetyConfig
from ops.generate.responsibility.safety import load_judge, unsafe_probability, withheld, withheld_shares
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture

CPU = torch.device("cpu")
FILTERS = CuratedManifestConfig(min_contrast=0.05, min_entropy=1.0)


def faded(shards, out):
    """Return a copy of the training split in which images fade to grey: the last ones are blank."""
    import pyarrow as pa

    table = read_manifest(shards)
    table = table[table["split"] == "train"].sort_values("key")
    images = open_images(shards, "train", out / "cache")
    weights = np.linspace(1, 0, len(images))[:, None, None, None]
    mixed = np.rint(images.images * weights + 128 * (1 - weights)).astype(np.uint8)
    data = [png(Image.fromarray(image)) for image in mixed]
    records = [{"id": i, "label": label} for i, label in zip(table["id"], table["label"], strict=True)]
    folder = out / "faded"
    shutil.copytree(shards / "train", folder / "train")
    write_shard(folder / "train" / "train-000000.tar", zip(table["key"], data, records, strict=True))
    rows = pa.Table.from_pandas(table, schema=MANIFEST_SCHEMA, preserve_index=False)
    finish_shard_folder(folder, rows, {**read_json(shards / "dataset.json"), "name": "faded"})
    return folder


def test_the_filters_are_those_of_curation(shards, tmp_path, recorder):
    """The same images are removed, for the same reasons, as if the outputs were curated."""
    folder = faded(shards, tmp_path)
    (tmp_path / "curated").mkdir()
    curate_manifest(FILTERS, folder, folder, tmp_path / "curated", recorder)
    expected = pq.read_table(tmp_path / "curated" / "removed.parquet").to_pandas().set_index("id")["reason"]
    images = open_images(folder, "train", tmp_path / "other")
    reasons = withheld(SafetyConfig(), FILTERS, images, None, CPU)
    found = {i: reason for i, reason in zip(images.table["id"], reasons, strict=True) if reason}
    assert found == expected.to_dict()
    assert set(found.values()) == {"low contrast", "low entropy"}
    shares = withheld_shares(reasons, judged=False)
    assert "unsafe" not in shares
    assert shares["any"][0] == pytest.approx(len(found) / 96)
    assert shares["low contrast"][0] == (expected == "low contrast").mean() * len(expected) / 96
    assert shares["any"][1] < shares["any"][0] < shares["any"][2]


def test_prompts_with_personal_data(shards, tmp_path):
    images = open_images(shards, "train", tmp_path)
    table = images.table.assign(caption=["a disc, mail me@home.net", *images.table["caption"][1:]])
    reasons = withheld(
        SafetyConfig(), FILTERS, ImageSet(images.images, images.labels, table, images.classes), None, CPU
    )
    assert reasons[0] == "personal data in the prompt"
    assert (reasons[1:] == "").all()


@pytest.fixture
def model(tmp_path):
    """Return the folder of a classifier of three classes, of which the last is the likelier the brighter the image."""
    architecture = Architecture(widths=[4, 8], blocks=[1, 1])
    classifier = build_classifier(architecture, 3, [0.5] * 3, [0.25] * 3, 0)
    with torch.no_grad():
        classifier.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    card = ModelCard(
        name="safety", architecture=architecture, classes=["fine", "odd", "gore"], image_size=32, mean=[0.5] * 3,
        std=[0.25] * 3, seed=0, ancestor="", recipe={},
    )  # fmt: skip
    save_classifier(tmp_path / "safety", classifier, card)
    return tmp_path / "safety"


def test_a_safety_classifier_withholds_what_it_calls_unsafe(shards, model, tmp_path):
    images = open_images(shards, "train", tmp_path)
    config = SafetyConfig(unsafe_classes=["odd", "gore"], batch=7)
    judge = load_judge(config, model, CPU)
    with torch.no_grad():
        expected = judge.model(images.batch(np.arange(96))).double().softmax(dim=1)[:, 1:].sum(dim=1).numpy()
    found = unsafe_probability(judge, images, 7, CPU)
    assert found == pytest.approx(expected, abs=1e-5)
    limit = float(np.median(expected))
    reasons = withheld(config.model_copy(update={"unsafe_probability": limit}), FILTERS, images, judge, CPU)
    assert ((reasons == "unsafe") == (found >= limit)).all()
    assert withheld_shares(reasons, judged=True)["unsafe"][0] == pytest.approx((found >= limit).mean())


def test_safety_classifiers_that_do_not_fit(shards, model, tmp_path):
    with pytest.raises(AmalgamError, match="does not know nudity"):
        load_judge(SafetyConfig(unsafe_classes=["nudity"]), model, CPU)
    with pytest.raises(AmalgamError, match="not told what is unsafe"):
        load_judge(SafetyConfig(), model, CPU)
    record = read_json(model / "model.json")
    (model / "model.json").write_text(json.dumps({**record, "image_size": 64}))
    judge = load_judge(SafetyConfig(unsafe_classes=["gore"]), model, CPU)
    images = open_images(shards, "train", tmp_path)
    with pytest.raises(AmalgamError, match="knows images of 64 pixels, these have 32"):
        withheld(SafetyConfig(), FILTERS, images, judge, CPU)
