"""Sampling plans: labels as in the data, attributes uniform, nothing from outside the training split; gated cells."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.files import content_hash, read_json
from ops.progress import Silent
from ops.sample.cells import grid_of
from ops.sample.config import SamplingPlanConfig
from ops.sample.gate import Gate
from ops.sample.plan import JUDGED, plan_samples
from ops.sample.strategies import CellErrors

TONE = {"kind": "attribute_balanced", "attributes": ["tone"]}


def plan(shards, out, strategy=TONE, multiple=2.0, seed=0, **given):
    config = SamplingPlanConfig.model_validate({"multiple": multiple, "strategy": strategy, "seed": seed})
    summary = plan_samples(config, shards, out, Silent(), **given)
    rows = pq.read_table(out / "plan.parquet").to_pandas(maps_as_pydicts="strict")
    return rows, pq.read_table(out / "cells.parquet").to_pandas(), summary


def tones(rows):
    return rows["attributes"].map(lambda a: a["tone"])


def gate_of(shards, factors, failed: dict) -> Gate:
    """A gate in which the cells of `failed`, {title: reason}, fail."""
    grid = grid_of(factors, read_json(shards / "dataset.json"))
    count = int(np.prod(grid.shape))
    table = pd.DataFrame({name: "cell" if name.endswith("_of") else 0.5 for name in JUDGED}, index=range(count))
    reasons = [failed.get(grid.title(place), "") for place in range(count)]
    assert sum(map(bool, reasons)) == len(failed)
    return Gate(grid, table.assign(reason=reasons))


def test_uniform_attributes_are_independent_of_the_label(shards, folders):
    found, cells, _ = plan(shards, *folders("plan"))
    train = read_manifest(shards).query("split == 'train'")
    assert len(found) == 2 * len(train)
    counts = found.groupby(["label", tones(found)]).size().unstack()
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    expected = train["label"].value_counts() * 2
    assert (found["label"].value_counts() - expected).abs().max() <= 2
    assert set(found["concept"]) <= set(train["concept"])
    planned = cells.set_index(["label", "attribute:tone"])["planned"]
    assert planned.to_dict() == counts.stack().to_dict()
    assert (found["method"] == "generate").all()
    assert (found["kind"] == "seen").all()


def test_a_plan_as_in_the_data_copies_the_training_split(shards, folders):
    found, _, _ = plan(shards, *folders("plan"), {"kind": "as_data"})
    train = read_manifest(shards).query("split == 'train'")
    joint = [train["label"], train["domain"], train["attribute:tone"]]
    expected = train.groupby(joint).size() * 2
    made = found.groupby([found["label"], found["domain"], tones(found)]).size()
    assert (made - expected).abs().max() <= 2


def test_rows_say_which_cell_they_are_of(shards, folders):
    found, cells, _ = plan(shards, *folders("plan"), {"kind": "domain_balanced", "attributes": ["tone"]})
    mine = cells.iloc[found["cell"]].reset_index(drop=True)
    assert mine["label"].tolist() == found["label"].tolist()
    assert mine["domain"].tolist() == found["domain"].tolist()
    assert mine["attribute:tone"].tolist() == tones(found).tolist()
    assert (cells["planned"].max() - cells["planned"].min()) <= 1
    assert found["cell"].value_counts().sort_index().tolist() == cells["planned"].tolist()


def test_a_plan_is_a_function_of_its_seed(shards, folders):
    a, b, c = folders("a", "b", "c")
    for out, seed in ((a, 1), (b, 1), (c, 2)):
        plan(shards, out, seed=seed)
    assert content_hash(a) == content_hash(b) != content_hash(c)


def test_combinations_that_training_never_showed_are_composed_and_marked(manifest_of, folders):
    rows = [("bar", "0")] * 6 + [("bar", "1")] * 2 + [("disc", "0")] * 4
    folder = manifest_of(pd.DataFrame(rows, columns=["label", "tone"]))
    found, cells, summary = plan(folder, *folders("plan"), multiple=4)
    new = (found["label"] == "disc") & (tones(found) == "1")
    assert new.sum() == 8
    assert found["kind"].eq("extrapolated").tolist() == new.tolist()
    assert cells.set_index(["label", "attribute:tone"]).loc[("disc", "1"), "kind"] == "extrapolated"
    assert summary.figures["in cells never seen"] == 8
    assert set(found.loc[new, "concept"]) == {f"i{n}" for n in range(8, 12)}, "modelled on images of the class"


def test_a_cell_that_fails_the_gate_is_oversampled(shards, folders):
    failed = {"label=disc, tone=1": "fidelity 0.10"}
    found, cells, summary = plan(shards, *folders("plan"), gate=gate_of(shards, ["tone"], failed))
    mine = (found["label"] == "disc") & (tones(found) == "1")
    assert found["method"].eq("oversample").tolist() == mine.tolist()
    train = read_manifest(shards).query("split == 'train'").set_index("id")
    originals = train.loc[found.loc[mine, "copy_of"]]
    assert (originals["label"] == "disc").all()
    assert (originals["attribute:tone"] == "1").all()
    assert found.loc[mine, "copy_of"].value_counts().eq(2).all()
    line = cells[cells["method"] == "oversample"].iloc[0]
    assert line["reason"].startswith("fidelity 0.10")
    assert summary.figures["training images repeated"] == line["planned"] == 48
    assert summary.tables["gated"][0]["tone"] == "1"


def test_a_failing_cell_without_images_is_refused_and_its_class_gets_its_share(manifest_of, folders):
    rows = [("bar", "0")] * 6 + [("bar", "1")] * 2 + [("disc", "0")] * 4
    folder = manifest_of(pd.DataFrame(rows, columns=["label", "tone"]))
    gate = gate_of(folder, ["tone"], {"label=disc, tone=1": "coverage 0.00"})
    found, cells, _ = plan(folder, *folders("plan"), multiple=4, gate=gate)
    assert found["label"].value_counts().to_dict() == {"bar": 32, "disc": 16}
    assert set(tones(found[found["label"] == "disc"])) == {"0"}
    line = cells.set_index(["label", "attribute:tone"]).loc[("disc", "1")]
    assert (line["method"], line["planned"], line["target"]) == ("none", 0, 0)
    assert "its share goes to other cells" in line["reason"]
    assert len(found) == 48


def test_a_class_that_is_refused_gives_its_share_to_all_others(manifest_of, folders):
    rows = [("bar", "0")] * 6 + [("bar", "1")] * 2 + [("disc", "0")] * 4
    folder = manifest_of(pd.DataFrame(rows, columns=["label", "tone"]))
    only = [{"label": "bar", "tone": 0, "share": 0.25}, {"label": "bar", "tone": 1, "share": 0.25}]
    target = {"kind": "target", "tables": [{"rows": [*only, {"label": "disc", "tone": 1, "share": 0.5}]}]}
    gate = gate_of(folder, ["tone"], {"label=disc, tone=1": "coverage 0.00"})
    found, _, _ = plan(folder, *folders("plan"), target, 4, gate=gate)
    assert found.groupby(["label", tones(found)]).size().to_dict() == {("bar", "0"): 24, ("bar", "1"): 24}
    target["tables"][0]["rows"] = [{"label": "disc", "tone": 1, "share": 1.0}]
    with pytest.raises(AmalgamError, match="fails in every cell"):
        plan(folder, *folders("again"), target, 4, gate=gate)


def test_a_target_file_makes_the_plan(shards, folders, tmp_path):
    (tmp_path / "tone.csv").write_text("tone,share\n0,0.1\n1,0.9\n")
    target = {"kind": "target", "tables": [{"file": "data/census/tone.csv"}]}
    found, _, _ = plan(shards, *folders("plan"), target, folders={"data/census": tmp_path})
    assert tones(found).eq("1").mean() == pytest.approx(0.9, abs=0.01)


def test_errors_draw_the_plan_to_where_they_are(shards, folders):
    grid = grid_of(["tone"], read_json(shards / "dataset.json"))
    errors = CellErrors(grid, np.full((2, 2), 100), np.array([[10.0, 10.0], [10.0, 60.0]]))
    found, _, _ = plan(shards, *folders("plan"), {"kind": "error_driven", "cap": 2.0, "floor": 0.2}, errors=errors)
    counts = found.groupby(["label", tones(found)]).size()
    assert counts[("disc", "1")] == pytest.approx(2 * 48, abs=1), "the cap"
    assert counts[("bar", "0")] == counts[("bar", "1")]
    other = replace(errors, grid=grid_of([], read_json(shards / "dataset.json")))
    with pytest.raises(ValueError, match="cells of label instead of label, tone"):
        plan(shards, *folders("wrong"), {"kind": "error_driven"}, errors=other)


def test_a_generator_that_does_not_know_a_value_is_not_asked_for_it(shards, folders):
    known = {"label": ["bar", "disc"], "domain": ["paper", "slate"], "tone": ["0"]}
    with pytest.raises(AmalgamError, match="never conditioned on tone '1'"):
        plan(shards, *folders("plan"), known=known)


def test_the_picture_shows_the_plan_beside_the_data(shards, folders):
    (out,) = folders("plan")
    failed = {"label=disc, domain=slate, tone=1": "fidelity 0.10"}
    strategy = {"kind": "domain_balanced", "attributes": ["tone"]}
    plan(shards, out, strategy, gate=gate_of(shards, ["domain", "tone"], failed))
    with_mark = Image.open(out / "pictures" / "plan.png").convert("RGB")
    assert len(with_mark.getcolors(2**20)) > 50
    (plain,) = folders("plain")
    plan(shards, plain, strategy)
    without = np.asarray(Image.open(plain / "pictures" / "plan.png").convert("RGB"))
    red = [((x[..., 0] > 200) & (x[..., 1:] < 80).all(axis=-1)).sum() for x in (np.asarray(with_mark), without)]
    assert red[0] > 10 > red[1], "a circle marks the cell whose images are repeated"


@pytest.mark.parametrize(
    "strategy", [{"kind": "class_balanced"}, {"kind": "as_data", "attributes": ["domain", "tone"]}]
)
def test_every_strategy_has_a_picture_and_tables(shards, folders, strategy):
    (out,) = folders("plan")
    _, cells, summary = plan(shards, out, strategy)
    assert (out / "pictures" / "plan.png").exists()
    assert sum(line["planned"] for line in summary.tables["plan"]) == 192
    assert len(summary.tables["cells"]) == len(cells)


def test_unknown_attribute(shards, folders):
    with pytest.raises(AmalgamError, match="no attribute 'age'") as error:
        plan(shards, *folders("plan"), {"kind": "attribute_balanced", "attributes": ["age"]})
    assert "tone" in error.value.remedy
