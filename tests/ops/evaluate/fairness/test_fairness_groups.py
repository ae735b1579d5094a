"""Who is compared with whom: intersections, domains, unlabelled images, small groups; and settings that do not fit."""

import numpy as np
import pandas as pd
import pytest

from ops.errors import AmalgamError
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.measure import measure_models
from ops.evaluate.fairness.names import axis_of, shown

CLASSES = ["a", "b"]


def made(count=400, seed=0, share=0.5):
    rng = np.random.default_rng(seed)
    labels = np.array(CLASSES, object)[(rng.random(count) < share).astype(int)]
    score = np.clip(rng.normal(np.where(labels == "b", 0.6, 0.4), 0.2), 0.01, 0.99)
    return labels, np.stack([1 - score, score], axis=1), rng


def left_out(result, **wanted):
    table = result.table("left_out")
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def test_intersections_and_domains_are_groups_too(measured, images):
    labels, said, rng = made()
    tones, genders = rng.choice(["0", "1"], 400), rng.choice(["man", "woman"], 400)
    domains = rng.choice(["paper", "slate"], 400)
    table = images(labels, domain=domains, tone=tones, gender=genders)
    result = measured(
        table, said, CLASSES, attributes=["tone", "domain"], intersections=[["tone", "gender"], ["domain", "tone"]]
    )
    right = np.array(CLASSES, object)[said.argmax(axis=1)] == labels
    both = {}
    for tone in "01":
        for gender in ("man", "woman"):
            mine = (tones == tone) & (genders == gender)
            row = result.one("accuracy", f"tone+gender={tone}+{gender}")
            assert (row["value"], row["n"]) == (pytest.approx(right[mine].mean()), mine.sum())
            both[tone, gender] = row["value"]
    gap = result.one("accuracy gap", "tone+gender")["value"]
    assert gap == pytest.approx(max(both.values()) - min(both.values()))
    assert result.one("accuracy", "domain=slate")["n"] == (domains == "slate").sum()
    mine = (domains == "paper") & (tones == "1")
    assert result.one("accuracy", "domain+tone=paper+1")["n"] == mine.sum()
    one = result.table()
    one = one[one["split"] == "test"]
    assert set(one["group"].map(axis_of)) == {"tone", "domain"}, "splits one by one are by attribute"
    assert result.one("accuracy", "all")["n"] == 400


def test_unlabelled_images_are_counted_and_take_no_part_along_their_axis(measured, images):
    """Missing, None and empty are the same; what is known otherwise still counts."""
    labels, said, rng = made()
    tones = rng.choice(["0", "1"], 400).astype(object)
    tones[:30], tones[30:50] = None, ""
    table = images(labels, tone=tones, gender=rng.choice(["man", "woman"], 400))
    for n in range(50, 60):
        del table["attributes"][n]["tone"]
    result = measured(table, said, CLASSES, attributes=["tone", "gender"], intersections=[["gender", "tone"]])
    rows = result.table()
    along = rows[(rows["split"] == "in distribution") & (rows["metric"] == "accuracy")]
    sizes = along.groupby(along["group"].map(axis_of))["n"].sum()
    assert sizes.to_dict() == {"all": 400, "tone": 340, "gender": 400, "gender+tone": 340}
    noted = left_out(result, metric="every measure")
    assert set(zip(noted["axis"], noted["group"], noted["count"], strict=True)) == {
        ("tone", "tone unlabelled", 60),
        ("gender+tone", "gender+tone unlabelled", 60),
    }


def test_a_small_group_is_listed_and_is_neither_worst_nor_in_the_gap(measured, images):
    labels, said, _ = made()
    tones = np.repeat(["0", "1", "2"], [200, 191, 9])
    said[391:] = 1 - said[391:]  # would be worst by far
    result = measured(images(labels, tone=tones), said, CLASSES, min_count=10)
    rows = result.table()
    assert not rows["group"].str.contains("tone=2").any()
    values = [result.one("accuracy", f"tone={t}")["value"] for t in "01"]
    assert result.one("accuracy gap", "tone")["value"] == pytest.approx(np.ptp(values))
    assert result.one("accuracy gap", "tone")["n"] == 391
    for split in ("test", "in distribution"):
        noted = left_out(result, group="tone=2", split=split)
        assert set(noted["count"]) == {9}
        assert set(noted["needed"]) == {10}
        assert set(noted["metric"]) == {"every measure"} if split != "test" else {"accuracy"}
    assert "tone=2" in set(measured(images(labels, tone=tones), said, CLASSES, min_count=9).table()["group"])


def test_positives_count_for_sensitivity_and_negatives_for_specificity(measured, images):
    """A large group with few positives has accuracy and specificity, but no sensitivity and no AUROC."""
    labels, said, _ = made()
    tones = np.repeat(["0", "1"], 200)
    labels[:200] = np.where(np.arange(200) < 9, "b", "a")
    result = measured(images(labels, tone=tones), said, CLASSES, positive=["b"], high_risk=["b"])
    found = {metric: set(mine["group"]) for metric, mine in result.table().groupby("metric")}
    both = {"tone=0", "tone=1"}
    assert found["accuracy"] >= both
    assert found["specificity"] >= both
    for metric in ("sensitivity", "AUROC", "high-risk sensitivity"):
        assert found[metric] == {"all", "tone=1"}
        assert f"{metric} gap" not in found, "one group has no gap"
        assert left_out(result, metric=metric, group="tone=0")["count"].tolist() == [9]
    assert "equalised odds difference" not in found
    assert "demographic parity difference" in found


def test_means_over_classes_are_over_the_same_classes_in_all_groups(measured, images):
    """A class that some group hardly has is left out of all means, and this is listed; a group without any is, too."""
    rng = np.random.default_rng(5)
    classes = ["a", "b", "c", "d"]
    labels = np.array(classes, object)[rng.integers(0, 4, 800)]
    tones = np.repeat(["0", "1", "2"], [400, 370, 30])
    labels[400:770] = np.where(labels[400:770] == "d", "a", labels[400:770])  # tone 1 has no d
    labels[770:] = np.repeat(["a", "b", "c", "d"], [8, 8, 7, 7])  # tone 2 has too few of all
    said = rng.dirichlet(np.ones(4), 800)
    result = measured(images(labels, tone=tones), said, classes)
    found = result.table()
    assert set(found.loc[found["metric"] == "AUROC", "group"]) == {"all", "tone=0", "tone=1"}
    predicted = np.array(classes, object)[said.argmax(axis=1)]
    for tone in "01":
        mine = tones == tone
        recalls = [(predicted == c)[mine & (labels == c)].mean() for c in "abc"]
        assert result.one("sensitivity", f"tone={tone}")["value"] == pytest.approx(np.mean(recalls))
    noted = left_out(result, split="in distribution", axis="tone")
    means = noted[noted["metric"].str.startswith("means over classes")]
    assert set(zip(means["group"], means["metric"], means["count"], strict=True)) == {
        ("tone", "means over classes (d)", 0),
        ("tone=2", "means over classes", 8),
    }
    of_d = left_out(result, group="tone=1", metric="sensitivity (d)")
    assert of_d["count"].tolist() == [0]
    assert result.one("sensitivity (d)", "tone=0", name="classes")["n"] == (labels[:400] == "d").sum()


def test_names_of_groups_for_people():
    names = {"tone": {"0": "light", "5": "dark"}}
    assert shown("tone=5", names) == "dark"
    assert shown("tone+gender=5+woman", names) == "dark, woman"
    assert shown("gender+tone=woman+7", names) == "woman, 7"
    assert shown("site=a=b", {}) == "a=b"
    assert shown("all", names) == "all"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attributes": ["age"]}, r"(?s)no attribute 'age'.*set fairness.attributes .* domain, tone"),
        ({"intersections": [["tone", "age"]]}, "no attribute 'age'"),
        ({"in_distribution": ["near"]}, "(?s)near, which was not evaluated.*add it to robustness.splits"),
        ({"out_of_distribution": ["shift"]}, "shift, which was not evaluated"),
        ({"high_risk": ["melanoma"]}, "(?s)fairness.high_risk names the class 'melanoma'.*use some of: a, b"),
        ({"positive": ["melanoma"]}, "fairness.positive names the class 'melanoma'"),
        ({"positive": ["a", "b"]}, "names every class"),
        ({"operating_point": {"split": "validation"}}, "(?s)'validation', which was not evaluated.*: test"),
        ({"reference": "classifier/none"}, "fairness.reference is 'classifier/none'"),
    ],
)
def test_settings_that_do_not_fit_are_named(measured, images, settings, message):
    labels, said, rng = made(60)
    with pytest.raises(AmalgamError, match=message):
        measured(images(labels, tone=rng.choice(["0", "1"], 60)), said, CLASSES, **settings)


def test_images_of_one_class_and_an_axis_without_labels_are_refused(measured, images):
    labels, said, rng = made(60)
    tones = rng.choice(["0", "1"], 60)
    with pytest.raises(AmalgamError, match="all images of test are of one class, 'a'"):
        measured(images(np.array(["a"] * 60, object), tone=tones), said, CLASSES)
    with pytest.raises(AmalgamError, match="no evaluated image has a value of tone"):
        measured(images(labels, tone=np.array([""] * 60, object)), said, CLASSES)


def test_models_that_met_other_images_are_refused(known, images, recorder):
    labels, said, rng = made(60)
    models = {("classifier/real", 0): said, ("classifier/mixed", 0): said}
    config, robustness, real = known(images(labels, tone=rng.choice(["0", "1"], 60)), models, CLASSES)
    table = pd.read_parquet(robustness / "predictions.parquet")
    for changed in (table.drop(index=3), table.assign(id=table["id"].where(table.index != 3, "other"))):
        changed.to_parquet(robustness / "predictions.parquet")
        with pytest.raises(AmalgamError, match="not evaluated on the same images"):
            measure_models(config, robustness, real, recorder)
    table.to_parquet(robustness / "predictions.parquet")
    (robustness / "probabilities.parquet").unlink()
    with pytest.raises(AmalgamError, match=r"(?s)no probabilities\.parquet.*python -m pipelines run robustness"):
        measure_models(config, robustness, real, recorder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attributes": ["tone", "tone"]}, "named twice"),
        ({"intersections": [["tone"]]}, "at least 2 items"),
        ({"intersections": [["tone", "tone"]]}, "names an attribute twice"),
        ({"intersections": [["tone", "gender"], ["gender", "tone"]]}, "an intersection is named twice"),
        ({"out_of_distribution": ["test"]}, "test cannot be both"),
        ({"operating_point": {"split": "test"}}, "thresholds from test, which is measured, would flatter"),
        ({"tested": ["accuracy of the king"]}, "'accuracy of the king' is not compared; use some of: accuracy, worst"),
        ({"tested": ["high-risk sensitivity gap"]}, "high_risk names no class"),
        ({"min_count": 0}, "greater than or equal to 1"),
        ({"attribute": "tone"}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FairnessConfig.model_validate(settings)
