"""What a plan is told: vocabularies of real conditioners, errors of real classifiers, a gate of real judges."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ops.data.loading import open_images
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.conditioning import Conditioner, vocabularies_of
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, save_classifier
from ops.models.config import Architecture
from ops.progress import Silent
from ops.sample.cells import grid_of
from ops.sample.config import ErrorDriven, GateConfig, SamplingPlanConfig
from ops.sample.evidence import cell_errors, judge_generator, known_vocabularies
from ops.sample.stage import write_plan

CPU = torch.device("cpu")
SMALL = Architecture(widths=[4, 8], blocks=[1, 1])
GATE = GateConfig(min_images=6, neighbours=2, space="pca", judges=["pca", "colours"], batch=16)


@pytest.fixture(scope="module")
def diffusion(shards, tmp_path_factory):
    """Return a generator's folder with nothing but its conditioner."""
    folder = tmp_path_factory.mktemp("generator") / "diffusion"
    found = vocabularies_of(read_manifest(shards), read_json(shards / "dataset.json"))
    conditioner = Conditioner(list(found), list(found.values()), context=8, embedding=8, max_tokens=4)
    conditioner.save_pretrained(folder / "model" / "conditioner", safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    """Return two random classifiers."""
    home, found = tmp_path_factory.mktemp("scorers"), {}
    for seed in (0, 1):
        model = build_classifier(SMALL, 2, [0.5] * 3, [0.25] * 3, seed)
        with torch.no_grad():
            model.head.weight.copy_(torch.randn(2, 8, generator=torch.Generator().manual_seed(seed)) * 50)
        card = ModelCard(
            name="scorer", architecture=SMALL, classes=["bar", "disc"], image_size=32, mean=[0.5] * 3, std=[0.25] * 3,
            seed=seed, ancestor="",
        )  # fmt: skip
        found[f"classifier/scorer/seed-{seed}"] = home / str(seed)
        save_classifier(home / str(seed), model, card)
    return found


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "evidence-cache"


def exchanged(answers, out, one: tuple[str, str], other: tuple[str, str]):
    """Return answers in which images of two conditions were given to each other."""
    shutil.copytree(answers, out)
    table = read_manifest(answers)
    to = {one: other, other: one}
    cells = [to.get(cell, cell) for cell in zip(table["label"], table["attribute:tone"], strict=True)]
    table["label"] = [label for label, _ in cells]
    table["attributes"] = [[("tone", tone)] for _, tone in cells]
    rows = pa.Table.from_pandas(table, schema=MANIFEST_SCHEMA, preserve_index=False)
    pq.write_table(rows, out / "manifest.parquet")
    return out


def test_vocabularies_are_those_of_the_saved_conditioner(diffusion, tmp_path):
    assert known_vocabularies(diffusion) == {
        "label": ["bar", "disc"],
        "domain": ["paper", "slate"],
        "tone": ["0", "1"],
    }
    with pytest.raises(AmalgamError, match="no generator in nothing"):
        known_vocabularies(tmp_path / "nothing")


def test_errors_are_those_of_the_classifiers_in_each_cell(shards, scorers, cache):
    config = ErrorDriven(attributes=["domain", "tone"], split="test", batch=7)
    found = cell_errors(config, scorers, shards, cache, CPU, Silent())
    images = open_images(shards, "test", cache)
    table, wrong = images.table, np.zeros(len(images))
    for folder in scorers.values():
        model, _ = load_classifier(folder, CPU)
        with torch.no_grad():
            seen = model(images.batch(np.arange(len(images)))).argmax(dim=1).numpy()
        wrong += (seen != images.labels) / 2
    assert 0 < wrong.sum() < len(images)
    expected = table.assign(wrong=wrong).groupby(["label", "domain", "attribute:tone"])["wrong"].agg(["size", "sum"])
    for place in range(8):
        cell = tuple(found.grid.cell(place).values())
        assert found.images.ravel()[place] == expected.loc[cell, "size"]
        assert found.wrong.ravel()[place] == pytest.approx(expected.loc[cell, "sum"])


def test_errors_need_a_classifier_of_this_dataset(shards, scorers, cache, tmp_path):
    with pytest.raises(AmalgamError, match="needs a trained classifier"):
        cell_errors(ErrorDriven(), {}, shards, cache, CPU, Silent())
    with pytest.raises(AmalgamError, match="no images in nowhere"):
        cell_errors(ErrorDriven(split="nowhere"), scorers, shards, cache, CPU, Silent())
    model, card = load_classifier(next(iter(scorers.values())), CPU)
    save_classifier(tmp_path / "other", model, card.model_copy(update={"classes": ["disc", "bar"]}))
    with pytest.raises(AmalgamError, match="other knows disc, bar"):
        cell_errors(ErrorDriven(), {"other": tmp_path / "other"}, shards, cache, CPU, Silent())


def test_a_generator_that_is_right_passes_the_gate(shards, synthetic, cache):
    gate = judge_generator(GATE, ["tone"], shards, synthetic, {}, cache, CPU, Silent())
    assert gate.grid == grid_of(["tone"], read_json(shards / "dataset.json"))
    assert gate.table["reason"].tolist() == [""] * 4
    assert (gate.table["fidelity_of"] == "cell").all()
    assert (gate.table["fidelity"] >= 0.9).all()
    assert (gate.table["fidelity_real"] > 0.8).all()


def test_conditions_that_a_generator_mixes_up_fail_and_only_they(shards, synthetic, cache, tmp_path):
    answers = exchanged(synthetic, tmp_path / "answers", ("bar", "0"), ("disc", "1"))
    gate = judge_generator(GATE, ["tone"], shards, answers, {}, cache, CPU, Silent())
    assert [bool(r) for r in gate.table["reason"]] == [True, False, False, True]
    assert (gate.table.loc[[0, 3], "fidelity"] < 0.1).all()
    assert gate.table.loc[[0, 3], "coverage"].max() < gate.table.loc[[1, 2], "coverage"].min()


def test_judges_look_for_what_cells_are_made_of_and_nothing_else(shards, synthetic, cache, tmp_path):
    """Tones are mixed up, which cells of the class alone do not mind."""
    answers = exchanged(synthetic, tmp_path / "answers", ("bar", "0"), ("bar", "1"))
    gate = judge_generator(GATE, [], shards, answers, {}, cache, CPU, Silent())
    assert gate.table["reason"].tolist() == ["", ""]
    gate = judge_generator(GATE, ["tone"], shards, answers, {}, cache, CPU, Silent())
    assert [bool(r) for r in gate.table["reason"]] == [True, True, False, False]


def test_the_gate_can_look_through_a_classifier(shards, synthetic, scorers, cache):
    config = GATE.model_copy(update={"space": "classifier"})
    gate = judge_generator(config, ["tone"], shards, synthetic, scorers, cache, CPU, Silent())
    assert gate.table["reason"].tolist() == [""] * 4
    with pytest.raises(AmalgamError, match="needs a trained classifier"):
        judge_generator(config, ["tone"], shards, synthetic, {}, cache, CPU, Silent())


def test_the_stage_puts_it_together(shards, synthetic, diffusion, scorers, cache, folders, tmp_path):
    answers = exchanged(synthetic, tmp_path / "answers", ("bar", "0"), ("disc", "1"))
    config = SamplingPlanConfig.model_validate(
        {"strategy": {"kind": "error_driven", "cap": 2.0}, "gate": GATE.model_dump()}
    )
    (out,) = folders("plan")
    summary = write_plan(config, shards, diffusion, answers, {"scorer": scorers}, {}, out, cache, CPU, Silent())
    found = pq.read_table(out / "plan.parquet").to_pandas(maps_as_pydicts="strict")
    cells = list(zip(found["label"], [a["tone"] for a in found["attributes"]], strict=True))
    copied = [cell in {("bar", "0"), ("disc", "1")} for cell in cells]
    assert found["method"].eq("oversample").tolist() == copied
    assert 0 < summary.figures["training images repeated"] == sum(copied) < 96
    record = read_json(diffusion / "model" / "conditioner" / "config.json")
    values = [["bar", "disc"], ["paper", "slate"], ["0"]]
    write_json(tmp_path / "other" / "model" / "conditioner" / "config.json", {**record, "values": values})
    with pytest.raises(AmalgamError, match="never conditioned on tone '1'"):
        write_plan(
            SamplingPlanConfig(), shards, tmp_path / "other", None, {}, {}, *folders("again"), cache, CPU, Silent()
        )
