"""Accuracy under corruptions: against closed forms, and what a run promises (resumed, batched, counted, paired)."""

import io
import json
import math
import tarfile

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions import images as images_module
from ops.evaluate.corruptions import measure as module
from ops.evaluate.corruptions.apply import corrupt
from ops.evaluate.corruptions.images import choose_images, read_piece
from ops.evaluate.corruptions.tables import CORRUPTIONS
from ops.evaluate.measurements import read_measurements
from ops.evaluate.predicting import choose
from ops.runtime import derive_seed
from tests.ops.evaluate.corruptions.cases import (
    ADDED,
    MODELS,
    NAMES,
    Linear,
    Threshold,
    config,
    files_of,
    predictions_of,
    wilson_by_hand,
)


def test_closed_forms(measure, greys):
    """Brightness turns the dark images that lie less than its summand below the threshold; contrast leaves greys alone."""
    severities = [1, 2, 3, 4, 5]
    out = measure(
        models={"m/seed-3": Threshold()}, corruptions=["brightness", "contrast"], severities=severities, images=200
    )
    rows = read_measurements(out).set_index("metric")
    turned = [float(((greys < 0.5) & (greys + added > 0.5)).mean()) for added in ADDED]
    assert 0 < turned[0] < turned[4]
    for severity, wrong in zip(severities, turned, strict=True):
        bright = rows.loc[f"accuracy under brightness (severity {severity})"]
        assert bright["value"] == pytest.approx(1 - wrong)
        assert (bright["low"], bright["high"]) == pytest.approx(wilson_by_hand(1 - wrong, 200))
        assert rows.loc[f"accuracy under contrast (severity {severity})", "value"] == 1
    assert rows.loc["accuracy under brightness", "value"] == pytest.approx(1 - np.mean(turned))
    error = rows.loc["mean corruption error (C-style)"]
    assert error["value"] == pytest.approx(np.mean(turned) / 2)
    assert (error["n"], error["seed"]) == (200, 3)
    assert rows.loc["accuracy without corruption", "value"] == 1

    # the interval is that of a mean over images, each with its outcomes under all corruptions, not over outcomes
    each = np.mean([(greys < 0.5) & (greys + added > 0.5) for added in ADDED], axis=0) / 2
    half = 1.96 * each.std() / math.sqrt(200)
    assert error["high"] - error["low"] == pytest.approx(2 * half, rel=0.2)


def test_rows_are_counts_of_single_outcomes(measure):
    out = measure()
    found, rows = predictions_of(out), read_measurements(out)
    assert len(found) == 3 * 20 * (1 + 3 * 2), "models, images, and pieces with the images as they are"
    assert (found["right"] == (found["predicted"] == found["label"])).all()
    assert not found.duplicated(["model", "seed", "id", "corruption", "severity"]).any()
    for (model, seed), mine in found.groupby(["model", "seed"]):
        line = rows[(rows["model"] == model) & (rows["seed"] == seed)].set_index("metric")
        assert len(line) == 1 + 3 * 2 + 3 + 1
        plain = mine[mine["severity"] == 0]
        assert set(plain["corruption"]) == {"none"}
        assert line.loc["accuracy without corruption", "value"] == plain["right"].mean()
        for name in NAMES:
            means = mine[mine["corruption"] == name].groupby("severity")["right"].mean()
            for severity in (2, 5):
                assert line.loc[f"accuracy under {name} (severity {severity})", "value"] == means[severity]
            assert line.loc[f"accuracy under {name}", "value"] == pytest.approx(means.mean())
        counted = mine[mine["corruption"].isin(NAMES[:2])]
        expected = 1 - counted["right"].mean()
        assert line.loc["mean corruption error (C-style)", "value"] == pytest.approx(expected), "saturate is extra"
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()


def test_images_are_those_that_attacks_meet_and_shards_hold_their_corruptions(measure, shards, folders):
    """Each image is corrupted by its own seed: alone it becomes the same bytes."""
    out = measure(splits=["test", "validation"])
    (cache,) = folders("cache")
    chosen = [choose(open_images(shards, split, cache), split, 20, 0) for split in ("test", "validation")]
    for name in NAMES:
        with tarfile.open(out / "corrupted" / name / "5.tar") as tar:
            members = tar.getmembers()
            assert {member.mtime for member in members} == {0}
            records = [json.load(tar.extractfile(m)) for m in members if m.name.endswith(".json")]
            pixels = [
                np.asarray(Image.open(io.BytesIO(tar.extractfile(m).read()))) for m in members if m.name.endswith("png")
            ]
        assert [r["id"] for r in records] == [*chosen[0].table["id"], *chosen[1].table["id"]]
        assert [r["split"] for r in records] == ["test"] * 20 + ["validation"] * 20
        for number in (0, 13):
            seed = np.array([derive_seed(0, "corrupt", records[number]["id"])])
            alone = corrupt(chosen[0].images[number : number + 1], name, 5, seed)
            assert (alone[0] == pixels[number]).all()
    rows = read_measurements(out)
    assert set(rows["split"]) == {"test", "validation"}
    assert set(rows["n"]) == {20}


def test_a_piece_is_corrupted_once_for_all_models(measure, monkeypatch):
    made, original = [], images_module.corrupt
    monkeypatch.setattr(images_module, "corrupt", lambda *a: made.append(a[1:3]) or original(*a))
    measure(batch=20)
    assert sorted(made) == sorted((name, severity) for name in NAMES for severity in (2, 5))


def test_batch_size_and_order_of_models_do_not_matter(measure):
    one = files_of(measure("one", batch=7))
    two = files_of(measure("two", dict(reversed(MODELS.items())), batch=20))
    assert one == two


@pytest.mark.parametrize("stop_after", [4, 13])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(measure, recorder_type, monkeypatch, stop_after):
    """Killed while images are corrupted (six pieces), or while models look at them (seven each)."""
    whole = files_of(measure("whole"))
    with pytest.raises(KeyboardInterrupt):
        measure("killed", monitor=recorder_type(stop_after=stop_after))
    made, seen = [], []
    write, predict = images_module.write_shard, module.predict
    monkeypatch.setattr(images_module, "write_shard", lambda *a: made.append(a[0]) or write(*a))
    monkeypatch.setattr(module, "predict", lambda *a: seen.append(a[1]) or predict(*a))
    assert files_of(measure("killed")) == whole
    assert (len(made), len(seen)) == {4: (1, 21), 13: (0, 13)}[stop_after]
    assert {name.split("/")[0] for name in whole} == {
        *("corrupted", "measurements.parquet", "pictures", "predictions.parquet")
    }


def test_a_model_is_exactly_as_bad_as_itself(measure, recorder_type):
    """Model and baseline meet the same draws: their ratio is 1 in each."""
    models = {"a/seed-0": Linear(0), "b/seed-0": Linear(5)}
    rows = read_measurements(measure(models=models, baseline="a"))
    relative = rows[rows["metric"] == "mean corruption error (C-style, relative to a)"].set_index("model")
    assert tuple(relative.loc["a", ["value", "low", "high"]]) == (1, 1, 1)
    other = relative.loc["b"]
    assert other["low"] < other["value"] < other["high"]
    accuracies = rows.set_index(["model", "metric"])["value"]
    ratios = [
        (1 - accuracies["b", f"accuracy under {n}"]) / (1 - accuracies["a", f"accuracy under {n}"]) for n in NAMES
    ]
    assert other["value"] == pytest.approx(np.mean(ratios[:2]))
    with pytest.raises(AmalgamError, match=r"corruptions\.baseline is 'c'") as error:
        measure("c", models=models, baseline="c")
    assert "a, b" in error.value.remedy


def test_a_baseline_without_errors_is_left_out_and_said(measure, greys, recorder):
    out = measure(models={"m/seed-0": Threshold()}, monitor=recorder, corruptions=["contrast"], baseline="m")
    assert not any("relative" in metric for metric in read_measurements(out)["metric"])
    assert any("m errs on no image" in note for note in recorder.notes)


def test_one_severity_is_a_share_like_any_other(measure):
    rows = read_measurements(measure(severities=[3])).set_index(["model", "seed", "metric"])
    for name in NAMES:
        one, mean = (rows.loc[("soup", 0, f"accuracy under {name}{s}")] for s in (" (severity 3)", ""))
        assert one.equals(mean)


def test_a_shard_of_other_images_is_refused(measure, shards, folders):
    out = measure()
    (cache,) = folders("cache")
    images = choose_images(config(images=19), shards, cache)
    with pytest.raises(AmalgamError, match=r"contrast/5\.tar holds other images"):
        read_piece(images, out / "corrupted" / "contrast" / "5.tar")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corruptions": ["fogg"]}, "no corruption 'fogg'; choose from gaussian_noise"),
        ({"corruptions": ["saturate"]}, "add at least one of gaussian_noise"),
        ({"corruptions": []}, "add at least one of"),
        ({"corruptions": ["fog", "fog"]}, "fog is given twice"),
        ({"severities": [0]}, "no severity 0; choose whole numbers from 1 to 5"),
        ({"severities": []}, "at least 1"),
        ({"splits": ["test", "test"]}, "test is given twice"),
        ({"table": "mnist"}, "'cifar' or 'imagenet'"),
        ({"published": "../files"}, "no folder below data/"),
        ({"severity": 1}, "severity"),
    ],
)
def test_mistakes_in_the_settings_are_named(changes, message):
    with pytest.raises(ValidationError, match=message) as error:
        config(**changes)
    assert error.value.errors()[0]["loc"][0] == next(iter(changes))


def test_defaults_are_the_whole_benchmark():
    settings = CorruptionsConfig(splits=["test"])
    assert len(settings.pieces()) == 75
    assert tuple(settings.corruptions) == CORRUPTIONS
