"""Images that nobody asked for: plans of nulls, what the generator is told of them, and how the filter labels them."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.data.loading import open_images
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.errors import AmalgamError
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import read_measurements
from ops.files import content_hash, read_json
from ops.generate.conditioning import Conditioner
from ops.generate.shards import write_synthetic
from ops.generate.text import encode_captions
from ops.launching import Here
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture
from ops.progress import Silent
from ops.sample.config import FilteredSyntheticConfig, SamplingPlanConfig
from ops.sample.filtering import choose, filter_synthetic
from ops.sample.plan import plan_samples
from ops.sample.report import write_synthetic_report
from ops.sample.report_config import SyntheticReportConfig
from ops.sample.rows import write_null_rows
from ops.sample.schema import PLAN_SCHEMA
from ops.train.groups import group_images
from tests.ops.conftest import DATASET, shape

CPU = torch.device("cpu")
FREE = {"strategy": {"kind": "unconditional"}}


class Drawer:
    """A source that draws bars and discs at random, whatever it is asked for."""

    name, identity, sampler, seed = "drawer", "0" * 64, {}, 0

    def draw(self, rows, monitor):
        rng = np.random.default_rng(3)
        return np.stack([shape(rng.choice(["bar", "disc"]), "0", rng) for _ in rows])


@pytest.fixture(scope="module")
def home(shards, tmp_path_factory):
    """Return a folder with an unconditional plan, the images made from it, and what the filter keeps of them."""
    home = tmp_path_factory.mktemp("unconditional")
    for name in ("plan", "synthetic", "filtered", "scratch", "drawn"):
        (home / name).mkdir()
    plan_samples(SamplingPlanConfig.model_validate({"multiple": 0.75, **FREE}), shards, home / "plan", Silent())
    rows = pq.read_table(home / "plan" / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    dataset = read_json(home / "plan" / "dataset.json")
    write_synthetic(lambda _: Drawer(), rows, dataset, home / "synthetic", home / "drawn", 50, Here(CPU), Silent())
    small = Architecture(widths=[4, 8], blocks=[1, 1])
    card = ModelCard(
        name="scorer", architecture=small, classes=["bar", "disc"], image_size=32, mean=[0.5] * 3, std=[0.25] * 3,
        seed=0, ancestor="",
    )  # fmt: skip
    model = build_classifier(small, 2, [0.5] * 3, [0.25] * 3, 0)
    x = open_images(shards, "train", home / "cache").batch(np.arange(96))
    with torch.no_grad():  # a head that calls half of the images bars
        values = model.eval().features(x) @ torch.ones(8)
        model.head.weight.copy_(torch.stack([torch.ones(8), -torch.ones(8)]) / values.std())
        model.head.bias.copy_(torch.tensor([-1.0, 1.0]) * values.median() / values.std())
    save_classifier(home / "scorer", model, card)
    filter_free(home, shards, home / "filtered")
    return home


def filter_free(home, shards, out, **changes):
    config = FilteredSyntheticConfig(**{"copies": None, "within": "tone", **changes})
    return filter_synthetic(
        config, shards, home / "synthetic", {"classifier/scorer/seed-0": home / "scorer"}, out, home / "scratch",
        home / "cache", CPU, Silent(),
    )  # fmt: skip


def test_a_plan_without_a_condition_asks_for_nothing(home, shards):
    table = pq.read_table(home / "plan" / "plan.parquet")
    assert table.schema.equals(PLAN_SCHEMA)
    rows = table.to_pylist(maps_as_pydicts="strict")
    assert [row["index"] for row in rows] == list(range(72))  # 0.75 x 96 training images
    for row in rows:
        assert row["label"] is row["domain"] is row["concept"] is row["copy_of"] is None
        assert row["attributes"] == {"tone": None}
        assert (row["caption"], row["kind"], row["method"]) == ("", "unconditional", "generate")
    cell = pq.read_table(home / "plan" / "cells.parquet").to_pylist()
    assert len(cell) == 1
    assert cell[0]["label"] is None
    assert (cell[0]["real"], cell[0]["planned"], cell[0]["target"]) == (96, 72, 1.0)
    assert (home / "plan" / "pictures" / "plan.png").stat().st_size


@given(st.integers(1, 60), st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_rows_do_not_depend_on_the_chunks_that_they_are_written_in(count, chunk):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "plan.parquet"
        write_null_rows(count, {"attributes": {"b": ["1"], "a": ["2"]}}, out, Silent(), chunk=chunk)
        rows = pq.read_table(out).to_pylist()
    assert [row["index"] for row in rows] == list(range(count))
    assert all(row["attributes"] == [("a", None), ("b", None)] for row in rows)


def test_the_generator_is_told_its_null_in_everything(home, tmp_path):
    """Codes and mask of planned rows are those of `Conditions.null`: what training drops to."""
    rows = pq.read_table(home / "plan" / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    values = [DATASET["classes"], DATASET["domains"], DATASET["attributes"]["tone"]]
    conditioner = Conditioner(["label", "domain", "tone"], values, 16, 8, 6)
    codes = conditioner.encode(rows)
    assert codes.tolist() == [conditioner.sizes] * len(rows)
    text = encode_captions([row["caption"] for row in rows], 6, tmp_path, CPU, Silent())
    assert not text.mask[text.rows([row["caption"] for row in rows])].any()


def test_f_nr_labels_what_nobody_asked_for(home):
    made, kept = read_manifest(home / "synthetic"), read_manifest(home / "filtered")
    assert set(made["label"]) == set(made["domain"]) == {None}
    assert pq.read_schema(home / "synthetic" / "manifest.parquet").equals(MANIFEST_SCHEMA)
    assert kept["label"].value_counts().to_dict() == {"bar": len(kept) // 2, "disc": len(kept) // 2}
    assert len(kept) >= 10
    for label, text in zip(kept["label"], kept["provenance"], strict=True):
        told = json.loads(text)
        assert told["condition"] is None
        assert told["pseudo label"] == label
    assert kept["attributes"].tolist() == [{"tone": None}] * len(kept)
    removed = pq.read_table(home / "filtered" / "removed.parquet").to_pandas()
    assert removed["condition"].isna().all()
    assert set(removed["id"]) | set(kept["id"]) == set(made["id"])
    images = open_images(home / "filtered", "train", home / "cache")
    assert [images.classes[k] for k in images.labels] == images.table["label"].tolist()
    with pytest.raises(AmalgamError, match="lack"):  # a group is not guessed
        group_images(["attribute:tone"], kept, kept, "sampling.by")


def test_summaries_say_that_there_is_no_condition(home, shards, folders):
    (out,) = folders("again")
    summary = filter_free(home, shards, out)
    assert content_hash(out) == content_hash(home / "filtered")
    assert summary.figures["made without a condition"] == 72
    assert "agreement of scorer and condition" not in summary.figures
    json.dumps([summary.figures, summary.tables], allow_nan=False)


@pytest.mark.parametrize("change", [{"labels": "conditional"}, {"require_agreement": True}])
def test_a_condition_that_is_needed_and_missing_is_one_error(home, shards, folders, change):
    (out,) = folders("out")
    with pytest.raises(AmalgamError, match="72 synthetic images were made without a condition") as caught:
        filter_free(home, shards, out, **change)
    assert "filtered_synthetic.labels to pseudo" in caught.value.remedy


def test_a_gate_has_no_cell_to_judge():
    with pytest.raises(ValidationError, match="asks for no cell"):
        SamplingPlanConfig.model_validate({"gate": {}, **FREE})


@given(st.lists(st.tuples(st.booleans(), st.floats(0.5, 1, width=32)), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_missing_attributes_change_no_choice(rows):
    """`within` an attribute that nobody was told is no `within`: the confidences decide, as a sort by hand does."""
    table = pd.DataFrame(rows, columns=["bar", "confidence"])
    table["label"] = table["pseudo"] = np.where(table["bar"], "bar", "disc")
    table["id"] = [f"{i:02d}" for i in range(len(table))]
    table = table.assign(condition=None, **{"attribute:tone": None})
    if table["label"].nunique() < 2:
        return
    config = FilteredSyntheticConfig(rule="topk_confidence", within="tone")
    kept = table["id"][choose(config, table, ["bar", "disc"]) == ""]
    count = table["label"].value_counts().min()
    best = [
        row["id"]
        for label in ("bar", "disc")
        for row in sorted(
            table[table["label"] == label].to_dict("records"), key=lambda row: (-row["confidence"], row["id"])
        )[:count]
    ]
    assert sorted(kept) == sorted(best)


def test_the_report_counts_acceptance_and_recognises_nothing(home, shards, folders):
    out, cache = folders("report", "cache")
    config = SyntheticReportConfig(spaces=["pca"], components=20, replicates=100, augmented=[])
    summary = write_synthetic_report(
        config, shards, home / "synthetic", home / "filtered", {}, {}, out, cache, CPU, Silent()
    )
    rows = read_measurements(out)
    accepted = rows[rows["metric"] == "accepted"].set_index("group")
    kept = len(read_manifest(home / "filtered"))
    assert accepted.loc["all", ["value", "low", "high"]].tolist() == pytest.approx(wilson(kept, 72))
    assert set(accepted.index) == {
        "all",
        "class=no condition",
        "tone=no condition",
        "class=no condition, tone=no condition",
    }
    assert not (rows["metric"] == "recognised").any()
    assert "recognised" not in summary.figures
    assert [line["planned"] for line in summary.tables["acceptance"]] == [72]
    assert (out / "pictures" / "acceptance.png").stat().st_size
