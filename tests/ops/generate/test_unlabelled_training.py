"""Generators learn from images without a label if they may; without such images nothing changes, to the byte."""

import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images, open_with_unlabelled
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.shards import finish_shard_folder
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.autoencoder import train_autoencoder
from ops.generate.codec import load_codec
from ops.generate.conditioning import vocabularies_of
from ops.generate.config import AutoencoderConfig
from ops.generate.diffusion import build_model, material_of, train_diffusion
from ops.generate.low_resolution import write_small_shards
from ops.generate.model_config import DiffusionConfig, UNetConfig
from ops.generate.pipeline import load_generator
from ops.generate.responsibility.config import MemorisationConfig, RepresentationConfig, ResponsibilityStageConfig
from ops.generate.responsibility.stage import write_responsibility_report
from ops.generate.synthesis import generate_shards
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.generate.text import encode_captions
from ops.generate.upsampler_config import UpsamplerConfig
from ops.generate.upsampler_training import train_upsampler
from ops.launching import Here
from ops.progress import Silent
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import plan_samples
from tests.ops.conftest import make_shards

CPU = torch.device("cpu")
AUTOENCODER = AutoencoderConfig(
    channels=[8, 16], latent_channels=4, steps=6, batch=8, perceptual_weight=0, bf16=False, seed=3
)
DIFFUSION = DiffusionConfig(
    backbone=UNetConfig(channels=[16, 32], head_width=8), context=16, max_tokens=8, steps=6, batch=16
)
COUNTS = {"train": 48, "validation": 16}


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def forget(shards):
    """Take the labels, captions and tones of the split `unlabelled` away; one half is of a new site, one of none."""
    rows = pq.read_table(shards / "manifest.parquet").to_pylist(maps_as_pydicts="strict")
    mine = [row for row in rows if row["split"] == "unlabelled"]
    for number, row in enumerate(mine):
        row |= {"label": None, "caption": "", "domain": "glass" if number % 2 else None, "attributes": {"tone": None}}
    rows = [{**row, "attributes": list(row["attributes"].items())} for row in rows]
    dataset = read_json(shards / "dataset.json")
    dataset["domains"] = [*dataset["domains"], "glass"]
    finish_shard_folder(shards, pa.Table.from_pylist(rows, MANIFEST_SCHEMA), dataset)
    return shards


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return a shard folder with unlabelled images, and the same without."""
    home = tmp_path_factory.mktemp("shards")
    with_ = forget(make_shards(home / "with" / "real_shards", {**COUNTS, "unlabelled": 24}))
    return with_, make_shards(home / "without" / "real_shards", COUNTS)


@pytest.fixture(scope="module")
def train(pair, tmp_path_factory):
    """Return a function that trains a generator on one of the pair: files of both stages, folder and summary."""
    known = {}

    def run(which, unlabelled):
        if (which, unlabelled) not in known:
            home = tmp_path_factory.mktemp("trained")
            for name in ("autoencoder", "diffusion", "s1", "s2"):
                (home / name).mkdir()
            settings = {"unlabelled": unlabelled}
            places = home / "autoencoder", home / "s1", home / "cache"
            train_autoencoder(AUTOENCODER.model_copy(update=settings), pair[which], {}, *places, CPU, Silent())
            summary = train_diffusion(
                DIFFUSION.model_copy(update=settings), pair[which], home / "autoencoder", home / "diffusion",
                home / "s2", home / "cache", CPU, Silent(),
            )  # fmt: skip
            known[which, unlabelled] = (files(home / "autoencoder"), files(home / "diffusion"), home, summary)
        return known[which, unlabelled]

    return run


def test_without_such_images_and_without_their_use_the_bytes_are_the_same(train):
    """What is not there has no effect, and what is not used has none either."""
    none, unused = train(1, True), train(0, False)
    assert none[0] == unused[0]
    place = "model/vae/config.json"  # diffusers notes there where the autoencoder was read
    assert {**none[1], place: b""} == {**unused[1], place: b""}
    assert none[3] == unused[3]
    assert "unlabelled images" not in none[3].figures


def test_unlabelled_images_are_learnt_from_and_counted_apart(train):
    autoencoder, _, home, summary = train(0, True)
    assert (
        autoencoder["model/diffusion_pytorch_model.safetensors"]
        != train(0, False)[0]["model/diffusion_pytorch_model.safetensors"]
    )
    assert (summary.figures["training images"], summary.figures["unlabelled images"]) == (48, 24)
    split = "training split"
    assert (
        read_json(home / "diffusion" / "generator.json")[split]
        != (read_json(train(0, False)[2] / "diffusion" / "generator.json")[split])
    )
    conditioner = load_generator(home / "diffusion", CPU).model.conditioner
    assert dict(zip(conditioner.names, conditioner.config["values"], strict=True)) == {
        "label": ["bar", "disc"],
        "domain": ["glass", "paper", "slate"],
        "tone": ["0", "1"],
    }


def test_the_network_is_told_what_is_known_and_the_null_of_the_rest(train, pair, tmp_path):
    """Codes by hand, from the manifest; the caption of an unlabelled image is masked whole."""
    images = open_with_unlabelled(pair[0], "train", tmp_path)
    known = vocabularies_of(images.table, read_json(pair[0] / "dataset.json"))
    text = encode_captions(images.table["caption"].tolist(), 8, tmp_path, CPU, Silent())
    model = build_model(DIFFUSION, (4, 16, 16), known, text.width)
    codec = load_codec(train(0, True)[2] / "autoencoder", CPU)
    material = material_of(DIFFUSION, images, codec, text, model.conditioner, CPU, Silent())
    manifest = pq.read_table(pair[0] / "manifest.parquet").to_pylist(maps_as_pydicts="strict")
    row_of = {row["id"]: row for row in manifest}
    assert len(material.ids) == 72
    nulls = 0
    for identity, codes, caption in zip(material.ids, material.codes.tolist(), material.captions, strict=True):
        row = row_of[identity]
        told = [row["label"], row["domain"], row["attributes"]["tone"]]
        values = [["bar", "disc"], ["glass", "paper", "slate"], ["0", "1"]]
        assert codes == [v.index(t) if t is not None else len(v) for t, v in zip(told, values, strict=True)]
        assert bool(text.mask[caption].any()) == (row["split"] == "train")
        nulls += codes == [2, 3, 2]
    assert nulls == 12


def test_guidance_has_nothing_to_guide_images_that_nobody_asked_for(train, pair, tmp_path):
    """A plan of nulls through the real sampler: the same images with guidance and without, and as many calls as without."""
    home = train(0, True)[2]
    for name in ("plan", "plain", "guided", "s1", "s2"):
        (tmp_path / name).mkdir()
    config = SamplingPlanConfig.model_validate({"multiple": 0.25, "strategy": {"kind": "unconditional"}})
    plan_samples(config, pair[0], tmp_path / "plan", Silent())
    for name, scratch, guidance in (("plain", "s1", 1.0), ("guided", "s2", 4.0)):
        sampling = SyntheticShardsConfig(steps=2, batch=5, shard_size=9, guidance=guidance, rescale=0.7)
        places = tmp_path / "plan", home / "diffusion", tmp_path / name, tmp_path / scratch
        generate_shards(sampling, *places, Here(CPU), Silent())
    one, other = (pq.read_table(tmp_path / name / "manifest.parquet") for name in ("plain", "guided"))
    assert one.num_rows == 12
    assert one["sha256"].equals(other["sha256"])
    assert len(set(one["sha256"].to_pylist())) == 12
    assert one["label"].null_count == one["domain"].null_count == 12


def test_a_training_image_without_a_label_is_refused(pair, tmp_path):
    table = read_manifest(pair[0])
    table.loc[table["split"] == "train", "split"] = "unlabelled"
    table.loc[table["label"].isna(), "split"] = "train"
    other = tmp_path / "real_shards"
    other.mkdir()
    rows = pa.Table.from_pandas(table, schema=MANIFEST_SCHEMA, preserve_index=False)
    finish_shard_folder(other, rows, read_json(pair[0] / "dataset.json"))
    for read in (open_images, open_with_unlabelled):
        with pytest.raises(AmalgamError, match=r"24 images of real_shards in train.* have no label"):
            read(other, "train", tmp_path)


def test_a_cascade_shrinks_them_too(pair, tmp_path):
    out = tmp_path / "small_shards"
    out.mkdir()
    write_small_shards(2, pair[0], out, Silent())
    before, after = (read_manifest(folder) for folder in (pair[0], out))
    known = ["id", "label", "domain", "attributes", "split", "caption"]
    pd.testing.assert_frame_equal(before[known], after[known])
    assert open_with_unlabelled(out, "train", tmp_path).images.shape == (72, 16, 16, 3)


def test_the_upsampler_learns_from_them_if_it_may(pair, tmp_path):
    made = {}
    for number, (which, unlabelled) in enumerate(((0, True), (0, False), (1, True))):
        config = UpsamplerConfig(channels=[8, 16], context=16, steps=3, batch=8, unlabelled=unlabelled)
        home = tmp_path / str(number)
        for name in ("out", "scratch"):
            (home / name).mkdir(parents=True)
        summary = train_upsampler(
            config, pair[which], home / "out", home / "scratch", tmp_path / "cache", CPU, Silent()
        )
        weights = (home / "out" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        made[which, unlabelled] = weights, summary.figures
    used, unused, none = made.values()
    assert unused == none
    assert used[0] != none[0]
    assert (used[1]["training images"], used[1]["unlabelled images"]) == (48, 24)
    assert "unlabelled images" not in none[1]


def test_copies_of_them_are_copies(pair, tmp_path):
    """A generator that repeats images of the split `unlabelled`, which no filter by labels would compare with."""
    made = tmp_path / "made"
    shutil.copytree(pair[0], made)
    table = read_manifest(made).query("split == 'unlabelled'").assign(split="train", label="bar", source="synthetic")
    rows = pa.Table.from_pandas(table, schema=MANIFEST_SCHEMA, preserve_index=False)
    finish_shard_folder(made, rows, read_json(made / "dataset.json"))
    config = ResponsibilityStageConfig(
        spaces=["pca"], memorisation=MemorisationConfig(cells=1), representation=RepresentationConfig(axes=["tone"])
    )
    places = made, {}, None, tmp_path, tmp_path / "cache", CPU
    write_responsibility_report(config, pair[0], {"diffusion": made}, *places, Silent())
    copies = pq.read_table(tmp_path / "copies.parquet").to_pandas().query("confirmed")
    assert set(copies["training_id"]) == set(table["id"])
    assert not read_json(tmp_path / "verdicts.json")["diffusion"]["passed"]
