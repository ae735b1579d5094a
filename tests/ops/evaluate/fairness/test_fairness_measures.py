"""Every measure against scikit-learn, fairlearn and the definitions, from the files that are written."""

import numpy as np
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    equalized_odds_difference,
    false_positive_rate,
    true_positive_rate,
)
from sklearn.metrics import recall_score, roc_auc_score

from ops.evaluate.calibration import debiased_calibration_error

CLASSES = ["a", "b", "c"]


def made(count=600, classes=CLASSES, seed=0, groups=3):
    """Return labels, tones and probabilities that see some groups worse than others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), count)
    tones = rng.integers(0, groups, count)
    logits = rng.normal(size=(count, len(classes)))
    logits[np.arange(count), labels] += np.array([1.5, 1.0, 0.3, 0.8])[tones]
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.array(classes, object)[labels], tones.astype(str), said


@pytest.fixture
def several(measured, images):
    """Return three classes in three groups with what was measured of them."""
    labels, tones, said = made()
    result = measured(images(labels, tone=tones), said, CLASSES, high_risk=["a", "b"])
    return labels, tones, said, np.array(CLASSES, object)[said.argmax(axis=1)], result


def in_range(row):
    assert row["low"] <= row["value"] <= row["high"]
    assert row["high"] - row["low"] > 0.01, "an interval, no point"
    return row["value"]


def test_groups_are_measured_as_scikit_learn_does(several):
    labels, tones, said, predicted, result = several
    for tone in "012":
        mine = tones == tone
        group = f"tone={tone}"
        assert in_range(result.one("accuracy", group)) == pytest.approx((predicted == labels)[mine].mean())
        area = roc_auc_score(labels[mine], said[mine], multi_class="ovr")
        assert in_range(result.one("AUROC", group)) == pytest.approx(area, abs=1e-6)
        recall = recall_score(labels[mine], predicted[mine], average="macro")
        assert in_range(result.one("sensitivity", group)) == pytest.approx(recall)
        specificities = [recall_score(labels[mine] != c, predicted[mine] != c) for c in CLASSES]
        assert in_range(result.one("specificity", group)) == pytest.approx(np.mean(specificities))
        for c, specificity in zip(CLASSES, specificities, strict=True):
            one = result.one(f"sensitivity ({c})", group, name="classes")
            assert in_range(one) == pytest.approx(recall_score(labels[mine] == c, predicted[mine] == c))
            assert one["n"] == (labels[mine] == c).sum()
            assert in_range(result.one(f"specificity ({c})", group, name="classes")) == pytest.approx(specificity)
            selected = result.one(f"selection rate ({c})", group, name="classes")
            assert in_range(selected) == pytest.approx((predicted[mine] == c).mean())
            area = roc_auc_score(labels[mine] == c, said[mine][:, CLASSES.index(c)])
            assert in_range(result.one(f"AUROC ({c})", group, name="classes")) == pytest.approx(area, abs=1e-6)


def test_high_risk_classes_may_be_taken_for_one_another(several):
    labels, tones, _, predicted, result = several
    mine = (tones == "1") & (labels != "c")
    found = result.one("high-risk sensitivity", "tone=1")
    assert in_range(found) == pytest.approx((predicted[mine] != "c").mean())
    assert found["n"] == mine.sum()
    assert found["value"] > (predicted[mine] == labels[mine]).mean(), "to take a for b is no miss"


def test_calibration_is_that_of_the_group_in_shared_bins(several):
    labels, tones, said, predicted, result = several
    smallest = min((tones == t).sum() for t in "012")
    assert smallest // 10 >= 15, "as many bins as there are at most"
    for tone in "012":
        mine = tones == tone
        right, confidence = (predicted == labels)[mine], said.max(axis=1)[mine]
        expected = debiased_calibration_error(confidence, right, 400, 0)
        row = result.one("calibration error", f"tone={tone}")
        assert row["value"] == pytest.approx(expected[0], abs=1e-6)
        assert (row["low"], row["high"]) == pytest.approx(expected[1:], abs=0.04)
        scaled = debiased_calibration_error(confidence**0.5, right, 100, 0)[0]
        found = result.one("calibration error (temperature scaled)", f"tone={tone}")["value"]
        assert found == pytest.approx(scaled, abs=1e-6)


def test_small_groups_have_fewer_bins_all_of_them(measured, images):
    labels, _, said = made(400, seed=3)
    tones = np.where(np.arange(400) < 30, "0", "1")
    result = measured(images(labels, tone=tones), said, CLASSES)
    right = np.array(CLASSES, object)[said.argmax(axis=1)] == labels
    for tone in "01":
        mine = tones == tone
        expected = debiased_calibration_error(said.max(axis=1)[mine], right[mine], 100, 0, bins=3)[0]
        assert result.one("calibration error", f"tone={tone}")["value"] == pytest.approx(expected, abs=1e-6)


def test_the_worst_group_is_named_and_the_gap_is_the_largest_difference(several):
    *_, result = several
    for metric in ("accuracy", "AUROC", "sensitivity", "specificity", "high-risk sensitivity", "calibration error"):
        values = {t: result.one(metric, f"tone={t}")["value"] for t in "012"}
        worst = (max if metric == "calibration error" else min)(values, key=values.__getitem__)
        assert in_range(result.one(f"worst-group {metric}", f"tone={worst}")) == pytest.approx(values[worst])
        gap = result.one(f"{metric} gap", "tone")
        assert in_range(gap) == pytest.approx(max(values.values()) - min(values.values()))
        spread = result.one(f"{metric} disparity", "tone")
        assert in_range(spread) == pytest.approx(np.std(list(values.values())))
    assert not any("worst-group selection" in m for m in result.metrics(name="classes")), "none is better"


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_are_as_in_fairlearn(measured, images, seed):
    """Whichever class is positive, and as the mean of both against the rest."""
    labels, tones, said = made(500, ["healthy", "ill"], seed)
    predicted = np.array(["healthy", "ill"], object)[said.argmax(axis=1)]
    truth, chosen = labels == "ill", predicted == "ill"
    odds = equalized_odds_difference(truth, chosen, sensitive_features=tones)
    parity = demographic_parity_difference(truth, chosen, sensitive_features=tones)
    for positive in (["ill"], ["healthy"], None):
        result = measured(images(labels, tone=tones), said, ["healthy", "ill"], positive=positive)
        assert in_range(result.one("equalised odds difference", "tone")) == pytest.approx(odds)
        assert in_range(result.one("demographic parity difference", "tone")) == pytest.approx(parity)
        for tone in "012":
            mine = tones == tone
            area = roc_auc_score(truth[mine], said[mine, 1])
            assert result.one("AUROC", f"tone={tone}")["value"] == pytest.approx(area, abs=1e-6)
    mine = tones == "0"
    result = measured(images(labels, tone=tones), said, ["healthy", "ill"], positive=["ill"])
    assert result.one("sensitivity", "tone=0")["value"] == pytest.approx(true_positive_rate(truth[mine], chosen[mine]))
    expected = 1 - false_positive_rate(truth[mine], chosen[mine])
    assert result.one("specificity", "tone=0")["value"] == pytest.approx(expected)
    assert result.one("selection rate", "tone=0")["value"] == pytest.approx(chosen[mine].mean())
    assert len(result.table("classes")) == 0


def test_several_classes_are_each_against_the_rest_then_the_mean(several):
    labels, tones, _, predicted, result = several
    pairs = [(labels == c, predicted == c) for c in CLASSES]
    odds = np.mean([equalized_odds_difference(t, p, sensitive_features=tones) for t, p in pairs])
    parity = np.mean([demographic_parity_difference(t, p, sensitive_features=tones) for t, p in pairs])
    assert in_range(result.one("equalised odds difference", "tone")) == pytest.approx(odds)
    assert in_range(result.one("demographic parity difference", "tone")) == pytest.approx(parity)


def test_positive_classes_are_one(measured, images):
    """A set against the rest: scores are the sum of its probabilities."""
    labels, tones, said = made(seed=2)
    result = measured(images(labels, tone=tones), said, CLASSES, positive=["b", "c"])
    predicted = np.array(CLASSES, object)[said.argmax(axis=1)]
    truth, chosen, mine = labels != "a", predicted != "a", tones == "2"
    area = roc_auc_score(truth[mine], said[mine, 1:].sum(axis=1))
    assert result.one("AUROC", "tone=2")["value"] == pytest.approx(area, abs=1e-6)
    assert result.one("sensitivity", "tone=2")["value"] == pytest.approx(recall_score(truth[mine], chosen[mine]))
    odds = equalized_odds_difference(truth, chosen, sensitive_features=tones)
    assert result.one("equalised odds difference", "tone")["value"] == pytest.approx(odds)


def test_many_classes_in_blocks_are_the_same(measured, images, monkeypatch):
    """How many classes are in memory at a time changes nothing, and neither does how many samples are."""
    labels, tones, said = made(seed=4)
    one = measured(images(labels, tone=tones), said, CLASSES)
    monkeypatch.setattr("ops.evaluate.fairness.part.BLOCK", 1)
    monkeypatch.setattr("ops.evaluate.fairness.resampling.CELLS", 2000)
    other = measured(images(labels, tone=tones), said, CLASSES)
    for name in ("measurements", "classes"):
        first, second = (each.table(name) for each in (one, other))
        assert (first[["split", "group", "metric", "n"]] == second[["split", "group", "metric", "n"]]).all(axis=None)
        numbers = ["value", "low", "high"]
        np.testing.assert_allclose(first[numbers], second[numbers], atol=1e-6)


def test_the_same_inputs_are_the_same_bytes(written, images):
    labels, tones, said = made(200)
    (one, _), (other, _) = (written(images(labels, tone=tones), said, CLASSES) for _ in range(2))
    files = {path.relative_to(one).as_posix() for path in one.rglob("*.*")}
    assert files == {
        *(f"{name}.parquet" for name in ("measurements", "classes", "differences", "left_out")),
        *("pictures/groups.png", "pictures/utility.png"),
    }
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_robust_accuracy_is_of_the_images_that_were_attacked(measured, images):
    labels, tones, said = made(300)
    stands = np.where(np.arange(300) < 200, said.max(axis=1) > 0.6, np.nan).astype(float)
    robust = {"linf 4/255": {("classifier/real", 0): stands}}
    result = measured(images(labels, tone=tones), said, CLASSES, robust)
    attacked = np.arange(300) < 200
    for split in ("test", "in distribution"):
        values = []
        for tone in "012":
            mine = (tones == tone) & attacked
            row = result.one("robust accuracy (linf 4/255)", f"tone={tone}", split)
            assert (row["value"], row["n"]) == (pytest.approx(stands[mine].mean()), mine.sum())
            values.append(row["value"])
        gap = result.one("robust accuracy (linf 4/255) gap", "tone", split)
        assert gap["value"] == pytest.approx(max(values) - min(values))
        assert gap["n"] == 200
