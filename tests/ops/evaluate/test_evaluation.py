"""Robustness of models whose answers are known."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from ops.attack import run
from ops.attack.attacks import published
from ops.attack.threat import Threat
from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.evaluate import outcomes, predicting
from ops.evaluate import robustness as module
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.measure import measure_fairness
from ops.evaluate.measurements import read_measurements, row, split_name, write_measurements
from ops.evaluate.outcomes import attack_images
from ops.evaluate.predicting import choose, predict
from ops.evaluate.probabilities import read_probabilities, splits_with_probabilities
from ops.evaluate.robustness import measure_robustness
from ops.evaluate.temperature import RANGE
from ops.files import read_json
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, save_classifier
from ops.models.config import Architecture

CPU = torch.device("cpu")
ATTACKS = [{"name": "pgd", "steps": 20}, {"name": "apgd-ce", "steps": 20}]


def config(**changes) -> RobustnessConfig:
    base = {
        "splits": ["test"],
        "threats": [{"norm": "linf", "eps": 4 / 255}, {"norm": "l2", "eps": 0.3}],
        "attacks": ATTACKS,
        "images": 40,
        "batch": 16,
        "honesty": {"images": 8, "steps": 2},
    }
    return RobustnessConfig.model_validate(base | changes)


class Linear(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3 * side * side, generator=torch.Generator().manual_seed(0)))

    def score(self, x):
        return (x - 0.5).flatten(1) @ self.w

    def forward(self, x):
        return torch.stack([-self.score(x), self.score(x)], dim=1)


def test_a_linear_model_end_to_end():
    """Robust accuracy is exactly the share of images whose score is further from 0 than eps times the dual norm."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 156, (60, 8, 8, 3), dtype=np.uint8)
    table = pd.DataFrame(
        {"id": [f"i{n}" for n in range(60)], "label": "a", "domain": "d", "attributes": [{"tone": "0"}] * 60}
    )
    model = Linear(8).eval()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    scores = model.score(x)
    labels = (scores > 0).long()
    labels[:6] = 1 - labels[:6]  # six mistakes
    images = ImageSet(pixels, labels.numpy(), table, ("a", "b"))
    for threat, dual in ((Threat(norm="linf", eps=0.004), 1), (Threat(norm="l2", eps=0.05), 2)):
        found = attack_images(model, "classifier/linear/seed-0", images, "test", threat, config(), CPU)
        reach = threat.eps * model.w.detach().norm(p=dual)
        sure = ((scores.abs() - reach).abs() > 1e-3).numpy()
        right = (scores > 0).long() == labels
        robust = (right & (scores.abs() > reach)).numpy()
        assert int(found["clean"].sum()) == 54
        assert (found["robust"].to_numpy() == robust)[sure].all()
        assert 5 < robust.sum() < 50
        assert (~found["robust"] | (found["pgd"] & found["apgd-ce"])).all()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return two model folders: random weights with an undecided and a decided head."""
    home, made = tmp_path_factory.mktemp("models"), {}
    architecture = Architecture(widths=[8, 16], blocks=[1, 1])
    for name in ("classifier/real", "classifier/mixed"):
        for seed in (0, 1):
            model = build_classifier(architecture, 2, [0.5] * 3, [0.25] * 3, seed)
            torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed + len(name)))
            card = ModelCard(
                name=name, architecture=architecture, classes=["bar", "disc"], image_size=32, mean=[0.5] * 3,
                std=[0.25] * 3, seed=seed, ancestor="",
            )  # fmt: skip
            made[f"{name}/seed-{seed}"] = home / name / f"seed-{seed}"
            save_classifier(made[f"{name}/seed-{seed}"], model, card)
    return made


def measure(models, shards, folders, monitor, tag="a", **changes):
    out, scratch, cache = folders(f"robustness-{tag}", f"scratch-{tag}", "cache")
    changes = {"attacks": [{"name": "pgd", "steps": 5}, {"name": "apgd-ce", "steps": 6}]} | changes
    measure_robustness(config(**changes), models, shards, out, scratch, cache, CPU, monitor)
    return out


def test_rows_are_counts_of_single_outcomes(models, shards, folders, recorder):
    out = measure(models, shards, folders, recorder)
    predictions = pq.read_table(out / "predictions.parquet").to_pandas()
    rows = read_measurements(out)
    assert predictions["threat"].value_counts().to_dict() == {
        "none": 4 * 48,
        "linf 4/255": 4 * 40,
        "l2 76.5/255": 4 * 40,
    }
    for threat, metric in (
        ("linf 4/255", "robust accuracy (linf 4/255)"),
        ("l2 76.5/255", "robust accuracy (l2 76.5/255)"),
    ):
        for (model, seed), mine in predictions[predictions["threat"] == threat].groupby(["model", "seed"]):
            line = rows.set_index(["model", "seed", "metric"]).loc[(model, seed, metric)]
            assert line["value"] == mine["robust"].mean()
            assert line["low"] <= line["value"] <= line["high"]
            assert line["n"] == 40
            assert (mine["robust"] == mine["pgd"] & mine["apgd-ce"]).all()
            assert (mine["clean"] == (mine["predicted"] == mine["label"])).all()
    plain = predictions[predictions["threat"] == "none"].groupby(["model", "seed"])["clean"].agg(["mean", "size"])
    clean = rows[rows["metric"] == "clean accuracy"].set_index(["model", "seed"])
    assert (clean["value"] == plain["mean"]).all()
    assert set(clean["n"]) == set(plain["size"]) == {48}, "all images of the split, not only those that are attacked"
    union = rows[rows["metric"] == "robust accuracy (union of threats)"].set_index(["model", "seed"])
    for key, mine in predictions[predictions["threat"] != "none"].groupby(["model", "seed"]):
        survivors = [set(part.loc[part["robust"], "id"]) for _, part in mine.groupby("threat")]
        assert union.loc[key, "value"] == len(set.intersection(*survivors)) / 40


def test_only_splits_that_are_to_be_attacked_are(models, shards, folders, recorder):
    """All splits have clean accuracy; fairness, claims and the report take what is there."""
    out = measure(models, shards, folders, recorder, tag="some", splits=["validation", "test"], attacked=["test"])
    rows, predictions = read_measurements(out), pq.read_table(out / "predictions.parquet").to_pandas()
    assert set(predictions.loc[predictions["threat"] != "none", "split"]) == {"test"}
    assert set(predictions.loc[predictions["threat"] == "none", "split"]) == {"validation", "test"}
    calibration = {"calibration error", "calibration error (temperature scaled)"}
    assert set(rows.loc[rows["split"] == "validation", "metric"]) == {"clean accuracy", *calibration}
    (fair,) = folders("fairness-some")
    measure_fairness(FairnessConfig(attributes=["tone"], replicates=100), out, shards, fair, recorder)
    metrics = read_measurements(fair).groupby("split")["metric"].agg(set)
    assert metrics["validation"] == {"accuracy", "worst-group accuracy", "accuracy gap", "accuracy disparity"}
    assert len(metrics["test"]) == 12
    with pytest.raises(ValueError, match="attacked names near"):
        config(attacked=["near"])


def test_probabilities_are_kept_of_every_class(models, shards, folders, recorder):
    """Those behind predictions and confidences, of all splits and of the one that sets temperatures, once each."""
    out = measure(
        models, shards, folders, recorder, tag="kept", splits=["test", "validation"], attacked=["test"], images=4
    )
    predictions = pq.read_table(out / "predictions.parquet").to_pandas()
    plain = predictions[predictions["threat"] == "none"].set_index(["model", "seed", "split"])
    assert splits_with_probabilities(out) == ["test", "validation"]
    for model, seed in ((name, s) for name in ("classifier/mixed", "classifier/real") for s in (0, 1)):
        for split in ("test", "validation"):
            ids, labels, said = read_probabilities(out, model, seed, split)
            mine = plain.loc[(model, seed, split)]
            assert (ids == mine["id"]).all()
            assert (labels == mine["label"]).all()
            assert (np.array(["bar", "disc"])[said.argmax(axis=1)] == mine["predicted"]).all()
            np.testing.assert_allclose(np.exp(said).max(axis=1), mine["confidence"], rtol=1e-6)
    alone = measure(models, shards, folders, recorder, tag="kept-alone", splits=["test"], images=4)
    assert splits_with_probabilities(alone) == ["test", "validation"]
    for split in ("test", "validation"):
        one, other = (read_probabilities(f, "classifier/real", 1, split)[2] for f in (out, alone))
        assert (one == other).all()


def test_temperature_is_fitted_on_other_images_and_changes_no_prediction(models, shards, folders, recorder):
    """The confidences are softmax(logits / T), with the T under which the validation split is likeliest."""
    out = measure(models, shards, folders, recorder, tag="temperature")
    temperatures = read_json(out / "temperatures.json")
    predictions = pq.read_table(out / "predictions.parquet").to_pandas()
    validation, test = (open_images(shards, split, folders("cache")[0]) for split in ("validation", "test"))
    for name, folder in models.items():
        model, _ = load_classifier(folder, CPU)
        with torch.no_grad():
            known, asked = (model(images.batch(np.arange(len(images)))).double() for images in (validation, test))
        targets = validation.targets(np.arange(len(validation)))
        tried = np.clip(temperatures[name] * np.array([1, 0.9, 1.1]), *RANGE)  # no better than chance: at the end
        best, *others = (float(nn.functional.cross_entropy(known / t, targets)) for t in tried)
        assert best <= min(others) + 1e-7
        plain = predictions[predictions["threat"] == "none"].set_index(["model", "seed"])
        mine = plain.loc[split_name(name)]
        scaled = (asked / temperatures[name]).softmax(dim=1)
        assert mine["scaled_confidence"].to_numpy() == pytest.approx(scaled.amax(dim=1).numpy(), abs=1e-5)
        assert mine["predicted"].tolist() == [test.classes[k] for k in scaled.argmax(dim=1)]


def test_batch_size_and_order_of_models_do_not_matter(models, shards, folders, recorder):
    one = measure(models, shards, folders, recorder, tag="one", batch=7)
    two = measure(dict(reversed(models.items())), shards, folders, recorder, tag="two", batch=40)
    tables = [pq.read_table(f / "predictions.parquet").to_pandas() for f in (one, two)]
    disagree = (tables[0]["robust"] != tables[1]["robust"]).mean()
    assert disagree <= 0.01, "floating point may turn one of 320, no more"
    assert (tables[0]["clean"] == tables[1]["clean"]).all()


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(models, shards, folders, recorder_type, monkeypatch):
    whole = measure(models, shards, folders, recorder_type(), tag="whole")
    with pytest.raises(KeyboardInterrupt):
        measure(models, shards, folders, recorder_type(stop_after=20), tag="killed")
    attacked = []
    original = module.attack_images
    monkeypatch.setattr(module, "attack_images", lambda *a: attacked.append(a[1]) or original(*a))
    resumed = measure(models, shards, folders, recorder_type(), tag="killed")
    assert 0 < len(attacked) < 8, "of the jobs with attacks some were done"
    tables = ("predictions.parquet", "probabilities.parquet", "measurements.parquet", "compute.parquet")
    for name in (*tables, "pictures/compute.png"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_only_a_model_that_changed_is_attacked_again(models, shards, folders, recorder, monkeypatch, tmp_path):
    measure(models, shards, folders, recorder, tag="before")
    changed = {**models, "classifier/real/seed-1": tmp_path / "real"}
    shutil.copytree(models["classifier/mixed/seed-0"], changed["classifier/real/seed-1"])
    attacked, original = [], module.attack_images
    monkeypatch.setattr(module, "attack_images", lambda *a: attacked.append(a[1]) or original(*a))
    (ledger,) = folders("scratch-before")
    out = folders("robustness-after")[0]
    settings = config(attacks=[{"name": "pgd", "steps": 5}, {"name": "apgd-ce", "steps": 6}])
    measure_robustness(settings, changed, shards, out, ledger, folders("cache")[0], CPU, recorder)
    assert attacked == ["classifier/real/seed-1"] * 2, "once under each threat"
    fresh = measure(changed, shards, folders, recorder, tag="fresh")
    for name in ("predictions.parquet", "probabilities.parquet"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes()


def test_a_killed_attack_goes_on_after_the_last_batch(shards, folders, tmp_path, monkeypatch):
    """Same outcomes as undisturbed, and no batch is attacked twice."""
    (cache,) = folders("cache")
    images = choose(open_images(shards, "test", cache), "test", 40, 0)
    model, settings = Linear(32).eval(), config(attacks=ATTACKS, batch=6)
    images.labels[:] = np.where(np.arange(len(images)) < 30, predict(model, "m", images, 16, CPU), images.labels)
    threat = Threat(norm="linf", eps=0.01)
    expected = attack_images(model, "m", images, "test", threat, settings, CPU)
    original, met = run.run_attack, []

    def dies(model, attack, x, *rest):
        met.append(attack.name)
        if len(met) == 4:
            raise KeyboardInterrupt
        return original(model, attack, x, *rest)

    monkeypatch.setattr(outcomes, "run_attack", dies)
    ledger = tmp_path / "ledger.json"
    with pytest.raises(KeyboardInterrupt):
        attack_images(model, "m", images, "test", threat, settings, CPU, ledger)
    found = attack_images(model, "m", images, "test", threat, settings, CPU, ledger)
    pd.testing.assert_frame_equal(found, expected)
    standing = int(expected["clean"].sum())
    assert met.count("pgd") == -(-standing // 6) + 1, "the batch that was killed, and every other one once"


def test_the_choice_of_images_is_nested_and_the_same_for_all(shards, folders):
    (cache,) = folders("cache")
    images = open_images(shards, "test", cache)
    few, many = (set(choose(images, "test", n, 0).table["id"]) for n in (10, 30))
    assert few < many
    assert len(many) == 30


def test_a_model_in_training_mode_or_with_nan_is_refused(shards, folders):
    (cache,) = folders("cache")
    images = choose(open_images(shards, "test", cache), "test", 4, 0)
    model = Linear(32)
    with pytest.raises(AmalgamError, match="training mode"):
        attack_images(model.train(), "m", images, "test", Threat(), config(), CPU)
    model.w.data[0] = float("nan")
    with pytest.raises(AmalgamError, match="no numbers"):
        attack_images(model.eval(), "m", images, "test", Threat(), config(), CPU)


def test_a_model_of_other_classes_is_refused(shards, folders):
    (cache,) = folders("cache")
    images = choose(open_images(shards, "test", cache), "test", 4, 0)
    with pytest.raises(AmalgamError, match="4 classes apart, the dataset has 2"):
        attack_images(LinearOf(4).eval(), "m", images, "test", Threat(), config(), CPU)


def test_an_attack_that_leaves_the_ball_is_refused(shards, folders, monkeypatch):
    """No number rests on a bad attack."""
    (cache,) = folders("cache")
    images = choose(open_images(shards, "test", cache), "test", 8, 0)
    monkeypatch.setattr(run, "pgd", lambda model, x, y, *a, **k: (x + 0.2).clamp(0, 1))
    monkeypatch.setattr(
        predicting, "logits_of", lambda model, x, name: torch.eye(2)[torch.from_numpy(images.labels)][: len(x)]
    )
    with pytest.raises(AmalgamError, match="left the threat model"):
        attack_images(Linear(32).eval(), "m", images, "test", Threat(), config(batch=8), CPU)


def test_attacks_are_named_or_listed():
    """A published list follows the norm; lists name an attack once and give it only what it reads."""
    standard = config(attacks="standard")
    assert standard.attack_names() == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert [a.steps for a in standard.attacks_in("linf")] == [100, 100, 100, 5000]
    assert standard.attacks_in("l1")[0].restarts == 5
    assert standard.attacks_in("l1")[1].targets == 5
    assert config(attacks="plus").attack_names()[:3] == ["apgd-ce", "apgd-dlr", "fab"]
    for wrong, message in (
        ([{"name": "pgd"}, {"name": "pgd"}], "named twice"),
        ([{"name": "pgd", "targets": 3}], "aims at no class"),
        ([{"name": "square", "restarts": 2}], "knows no restarts"),
        ("autoattack", "standard"),
    ):
        with pytest.raises(ValueError, match=message):
            config(attacks=wrong)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("kind", ["standard", "plus"])
def test_published_lists_run_to_the_end(shards, folders, kind, classes):
    """Every attack of the lists through its settings, at a fiftieth of the steps, with 2 to 4 classes."""
    (cache,) = folders("cache")
    images = choose(open_images(shards, "test", cache), "test", 12, 0)
    images, model = replace(images, classes=tuple("abcd"[:classes])), LinearOf(classes).eval()
    images.labels[:] = predict(model, "m", images, 16, CPU)
    for norm, eps in (("linf", 0.001), ("l2", 0.02), ("l1", 0.3)):
        attacks = [a.model_dump(exclude_unset=True) | {"steps": a.steps // 50} for a in published(kind, norm)]
        found = attack_images(model, "m", images, "test", Threat(norm=norm, eps=eps), config(attacks=attacks), CPU)
        outcome = found[["clean", *[a["name"] for a in attacks]]].to_numpy()
        assert (outcome[:, 1:] <= outcome[:, :-1]).all(), "what one attack has broken stays broken"
        assert found["clean"].all()
        assert not found["robust"].all()


class LinearOf(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3 * 32 * 32, classes, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return (x - 0.5).flatten(1) @ self.w


def test_a_value_outside_its_interval_is_refused(tmp_path):
    bad = row("m/seed-0", "d", "test", "all", "accuracy", (0.5, 0.6, 0.7), 10)
    with pytest.raises(ValueError, match="not inside its interval"):
        write_measurements(tmp_path / "m.parquet", [bad])
    with pytest.raises(ValueError, match="not inside its interval"):
        write_measurements(tmp_path / "m.parquet", [{**bad, "value": float("nan")}])
    assert split_name("classifier/real/seed-12") == ("classifier/real", 12)
