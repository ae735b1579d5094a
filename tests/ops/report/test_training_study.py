"""The comparison of trainings: figures by hand, intervals against scipy, pictures, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from ops.errors import AmalgamError
from ops.evaluate.measurements import SCHEMA, read_measurements
from ops.files import write_json
from ops.report.config import TrainingStudyConfig
from ops.report.training import compare_training, families, newcombe, short_names
from ops.train.recipe import Recipe

CURVE = [0.30, 0.50, 0.42]
"""Robust accuracy of averaged weights on validation images: best 0.50, last 0.42."""


def recipe(**changes) -> dict:
    return Recipe.model_validate({"schedule": {"epochs": 3}, **changes}).model_dump(mode="json")


def history(averaged, live=None, train=None, test=None, n=100):
    """Return a history with evaluations at epochs 1, 2, ...; the given numbers are robust accuracies."""
    found = []
    for weights, split, curve in (
        ("averaged", "validation", averaged),
        ("live", "validation", live),
        ("averaged", "train", train),
        ("averaged", "test", test),
    ):
        found += [
            {"step": 10 * i, "epoch": float(i), "weights": weights, "split": split, "clean accuracy": 0.9,
             "robust accuracy": value, "n": n}
            for i, value in enumerate(curve or [], start=1)
        ]  # fmt: skip
    return {"steps": [{"step": 0, "epoch": 0.1, "loss": 1.9, "lr": 0.1}], "evaluations": found}


@pytest.fixture
def folder(tmp_path):
    """Return a function that makes a model folder."""

    def make(name, story, of=None):
        path = tmp_path / "store" / name
        path.mkdir(parents=True)
        write_json(path / "history.json", story)
        write_json(path / "model.json", {"recipe": of or recipe()})
        return name, path

    return make


@pytest.fixture
def study(tmp_path, recorder):
    """Return a function that compares model folders and returns measurements, curves, summary and the out folder."""

    def run(*models, config=None):
        out = tmp_path / "out"
        out.mkdir()
        summary = compare_training(dict(models), out, recorder, *([config] if config else []))
        return read_measurements(out), pd.read_parquet(out / "curves.parquet"), summary, out

    return run


def value(rows, metric, seed, model="classifier/real", split="validation"):
    mine = (rows["metric"] == metric) & (rows["seed"] == seed) & (rows["model"] == model) & (rows["split"] == split)
    found = rows[mine]
    assert len(found) == 1, (metric, seed, len(found))
    return found.iloc[0]


def test_best_last_and_gap_of_one_seed(folder, study):
    one = folder("classifier/real/seed-3", history(CURVE, [0.2, 0.35, 0.36], [0.4, 0.7, 0.80]))
    rows, curves, summary, _ = study(one)
    assert value(rows, "best robust accuracy, averaged", 3)["value"] == pytest.approx(0.50)
    assert value(rows, "last robust accuracy, averaged", 3)["value"] == pytest.approx(0.42)
    assert value(rows, "best robust accuracy, live", 3)["value"] == pytest.approx(0.36)
    gap = value(rows, "train minus held-out robust accuracy, averaged", 3)
    assert gap["value"] == pytest.approx(0.80 - 0.42)
    assert gap["n"] == 200
    line = summary.tables["training"][0]
    assert (line["recipe"], line["best - last, averaged"], line["best - last, live"]) == ("real", "0.080", "0.000")
    assert line["train - validation, live"] == "–", "training images were not evaluated with live weights"
    assert len(curves) == 2 * 9 + 2
    picked = curves.query("weights == 'averaged' and split == 'validation' and metric == 'robust accuracy'")
    assert picked.sort_values("epoch")["value"].tolist() == CURVE


def test_one_seed_has_the_interval_of_a_share_and_none_for_overfitting(folder, study):
    rows, *_ = study(folder("classifier/real/seed-0", history(CURVE)))
    last = value(rows, "last robust accuracy, averaged", 0)
    wilson = stats.binomtest(42, 100).proportion_ci(method="wilson")
    assert (last["low"], last["high"]) == pytest.approx((wilson.low, wilson.high))
    assert not rows["metric"].str.contains("overfitting").any()
    assert (rows["seed"] == 0).all(), "no mean of one seed"


def test_means_over_seeds_have_student_intervals(folder, study):
    ends = [0.42, 0.47, 0.36]
    models = [folder(f"classifier/real/seed-{s}", history([0.3, 0.5, end])) for s, end in enumerate(ends)]
    rows, _, summary, _ = study(*models)
    for metric, values in (
        ("last robust accuracy, averaged", ends),
        ("robust overfitting (best - last), averaged", [0.5 - end for end in ends]),
    ):
        mean = value(rows, metric, -1)
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert (mean["value"], mean["low"], mean["high"]) == pytest.approx((np.mean(values), low, high))
        assert mean["n"] == 300
    assert summary.figures["largest robust overfitting"] == pytest.approx(0.5 - np.mean(ends))
    assert summary.figures["trainings"] == 3
    assert list(rows.columns) == SCHEMA.names


def test_on_test_images_best_is_what_validation_images_chose(folder, study):
    """Validation is best at epoch 2, test images at epoch 3: their best - last is negative."""
    rows, _, summary, _ = study(folder("classifier/real/seed-0", history(CURVE, train=CURVE, test=[0.2, 0.4, 0.45])))
    best = value(rows, "best robust accuracy, averaged", 0, split="test")
    assert best["value"] == pytest.approx(0.4)
    assert value(rows, "best robust accuracy, averaged", 0)["value"] == pytest.approx(0.5)
    line = summary.tables["training"][0]
    assert (line["best - last, averaged"], line["train - test, averaged"]) == ("-0.050", "-0.030")


def test_the_order_of_evaluations_in_the_file_does_not_matter(folder, study):
    story = history(CURVE)
    story["evaluations"].reverse()
    rows, *_ = study(folder("classifier/real/seed-0", story))
    assert value(rows, "last robust accuracy, averaged", 0)["value"] == pytest.approx(0.42)


def test_interval_of_a_difference_is_the_published_one():
    """Newcombe (1998), table II, first line of method 10: 56 of 70 against 48 of 80."""
    assert newcombe((56 / 70, 70), (48 / 80, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_interval_of_a_difference_against_simulation():
    """It covers the true difference in about 95 of 100 repetitions of the experiment."""
    rng = np.random.default_rng(0)
    draws = zip(rng.binomial(100, 0.8, 200), rng.binomial(60, 0.42, 200), strict=True)
    found = [newcombe((a / 100, 100), (b / 60, 60)) for a, b in draws]
    assert 0.9 <= np.mean([low <= 0.8 - 0.42 <= high for _, low, high in found]) < 1


def test_pictures(folder, study):
    models = []
    for name, changes in {
        "none": {"augmentation": {"crop": 0, "flip": False}},
        "cutmix": {"augmentation": {"mixing": {"method": "cutmix", "size": "window", "window": 20}}},
        "half": {"mix": {"real_fraction": 0.5}},
        "full": {},
    }.items():
        for seed in (0, 1):
            story = history([0.3, 0.5 + seed / 50, 0.42], [0.2, 0.4, 0.3], [0.3, 0.6, 0.8])
            models.append(folder(f"classifier/{name}/seed-{seed}", story, recipe(**changes)))
    _, _, summary, out = study(*models)
    for name in ("overfitting", "augmentation", "alpha"):
        path = out / "pictures" / f"{name}.png"
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert 500 < picture.width <= 720, "readable where 700 pixels are shown"
            assert np.asarray(picture.convert("L")).std() > 5, "not blank"
    words = {line["recipe"]: line["augmentation"] for line in summary.tables["training"]}
    assert words["none"] == "no augmentation"
    assert words["cutmix"] == "crop 4, flip, cutmix window 20"


def test_no_picture_of_alpha_where_all_recipes_share_it(folder, study):
    *_, out = study(folder("classifier/real/seed-0", history(CURVE)))
    assert not (out / "pictures" / "alpha.png").exists()
    assert (out / "pictures" / "overfitting.png").exists()


def test_the_same_histories_are_the_same_bytes(folder, tmp_path, recorder):
    name, path = folder("classifier/real/seed-0", history(CURVE, CURVE))
    files = []
    for number in range(2):
        out = tmp_path / f"out-{number}"
        out.mkdir()
        compare_training({name: path}, out, recorder)
        files.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert files[0] == files[1]
    assert len(files[0]) == 4


def test_lines_of_alpha_join_recipes_that_differ_in_nothing_else():
    made = {
        "real": {},
        "a": {"mix": {"real_fraction": 0.7}},
        "b": {"mix": {"real_fraction": 0.3}},
        "gauss": {"mix": {"real_fraction": 0.5, "source": "data/gaussian"}},
        "other": {"mix": {"real_fraction": 0.6}, "beta": 1.0},
    }
    recipes = {name: Recipe.model_validate({"schedule": {"epochs": 3}, **each}) for name, each in made.items()}
    assert families(recipes) == [["b", "a", "real"], ["gauss", "real"]]


def test_short_names_stay_unique():
    names = short_names(["classifier/real", "ingredient/l2", "ingredient/real", "classifier/real"])
    assert names == {"classifier/real": "classifier/real", "ingredient/l2": "l2", "ingredient/real": "ingredient/real"}


def test_recipes_can_be_chosen(folder, study):
    models = [folder("classifier/real/seed-0", history(CURVE)), folder("ingredient/l2/seed-0", history(CURVE))]
    rows, *_ = study(*models, config=TrainingStudyConfig(recipes=["l2"]))
    assert set(rows["model"]) == {"ingredient/l2"}


def test_an_unknown_recipe_is_named_with_the_known_ones(folder, tmp_path, recorder):
    models = dict([folder("classifier/real/seed-0", history(CURVE))])
    with pytest.raises(AmalgamError, match="'reel'") as error:
        compare_training(models, tmp_path, recorder, TrainingStudyConfig(recipes=["reel"]))
    assert "real" in error.value.remedy


def broken(change):
    story = history(CURVE)
    change(story)
    return story


@pytest.mark.parametrize(
    ("story", "message"),
    [
        ([{"step": 0, "loss": 1.0}], "of another form"),
        (broken(lambda s: s.pop("evaluations")), r"evaluations: Field required"),
        (broken(lambda s: s["evaluations"][1].update(weights="raw")), r"evaluations\.1\.weights"),
        (broken(lambda s: s["evaluations"][0].update({"robust accuracy": 41.0})), r"robust accuracy"),
        (broken(lambda s: s["evaluations"].clear()), "no evaluation of averaged weights on validation"),
    ],
)
def test_another_form_is_refused(folder, tmp_path, recorder, story, message):
    models = dict([folder("classifier/real/seed-0", story)])
    with pytest.raises(AmalgamError, match=message) as error:
        compare_training(models, tmp_path, recorder)
    assert "classifier/real/seed-0" in error.value.message


def test_missing_and_damaged_files_are_named(folder, tmp_path, recorder):
    name, path = folder("classifier/real/seed-0", history(CURVE))
    (path / "model.json").write_text(json.dumps({"name": "real"}))
    with pytest.raises(AmalgamError, match=r"model\.json of classifier/real/seed-0 is of another form"):
        compare_training({name: path}, tmp_path, recorder)
    (path / "history.json").write_text("{")
    with pytest.raises(AmalgamError, match=r"history\.json of classifier/real/seed-0 is of another form"):
        compare_training({name: path}, tmp_path, recorder)
    (path / "history.json").unlink()
    with pytest.raises(AmalgamError, match=r"has no history\.json"):
        compare_training({name: path}, tmp_path, recorder)
    with pytest.raises(AmalgamError, match="no trainings"):
        compare_training({}, tmp_path, recorder)


def test_seeds_must_be_trained_alike(folder, tmp_path, recorder):
    models = dict(
        [
            folder("classifier/real/seed-0", history(CURVE)),
            folder("classifier/real/seed-1", history(CURVE), recipe(beta=1.0)),
        ]
    )
    with pytest.raises(AmalgamError, match="seeds 0 and 1 of classifier/real were trained differently"):
        compare_training(models, tmp_path, recorder)
