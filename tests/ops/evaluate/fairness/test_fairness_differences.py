"""Differences between models: paired, with seeds as a random effect, corrected for their number."""

import numpy as np
import pandas as pd
import pytest

from ops.errors import AmalgamError
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.differences import Family, compare
from ops.evaluate.fairness.resampling import weights
from ops.evaluate.intervals import group_gap, resampled
from ops.evaluate.significance import holm, statistic_effect

CLASSES = ["a", "b"]
COUNT = 600


def outcomes(images, models, seed=0):
    """Return images in two tones, and probabilities by model and seed that are right as often as `models` says.

    `models` has the accuracy of both tones by (model, seed). Images are as hard for all, as they are in truth.
    """
    rng = np.random.default_rng(seed)
    tones, labels = np.repeat([0, 1], COUNT // 2), rng.integers(0, 2, COUNT)
    hardness = rng.random(COUNT)
    said = {}
    for key, accuracy in models.items():
        mixed = np.where(rng.random(COUNT) < 0.1, rng.random(COUNT), hardness)
        right = mixed < np.array(accuracy)[tones]
        share = np.where(right == (labels == 1), 0.8, 0.2) + 0.1 * rng.random(COUNT)
        said[key] = np.stack([1 - share, share], axis=1)
    table = images(np.array(CLASSES, object)[labels], tone=tones.astype(str))
    return table, said


def lines(result, measure):
    table = result.table("differences")
    return table[table["measure"] == measure].set_index(["model", "than"])


FAIR, BIASED = (0.80, 0.78), (0.85, 0.55)


def test_a_fairer_model_is_found(measured, images):
    models = {("mixed", s): FAIR for s in range(3)} | {("real", s): BIASED for s in range(3)}
    table, said = outcomes(images, models)
    result = measured(table, said, CLASSES, replicates=400)
    rows = result.table().set_index(["model", "seed", "metric", "group"])
    gaps = {m: [rows.loc[(m, s, "accuracy gap", "tone"), "value"].iloc[0] for s in range(3)] for m in ("mixed", "real")}
    line = lines(result, "accuracy gap").loc[("mixed", "real")]
    assert line["effect"] == pytest.approx(np.mean(gaps["mixed"]) - np.mean(gaps["real"]))
    assert line["by_seed"] == pytest.approx(np.subtract(gaps["mixed"], gaps["real"]))
    assert line["high"] < 0, "less of a gap"
    assert line["p"] < 0.01
    assert (line["counted"], line["n"], list(line["seeds"])) == ("images and seeds", COUNT, [0, 1, 2])
    worst = lines(result, "worst-group accuracy").loc[("mixed", "real")]
    assert worst["low"] > 0
    assert worst["effect"] > 0.1
    assert set(result.table("differences")["axis"]) == {"tone", "all"}, "AUROC is of all images"


def test_effects_are_those_of_the_paired_bootstrap(measured, images):
    """Against images that are drawn one by one within groups and bring all models and seeds."""
    models = {(m, s): (0.8 - 0.02 * s, a) for m, a in (("mixed", 0.7), ("real", 0.6)) for s in range(2)}
    table, said = outcomes(images, models)
    line = lines(measured(table, said, CLASSES, replicates=4000), "accuracy gap").loc[("mixed", "real")]
    labels = table["label"].to_numpy()
    right = np.stack(
        [
            np.stack([np.array(CLASSES, object)[said[m, s].argmax(axis=1)] == labels for s in range(2)], axis=1)
            for m in ("mixed", "real")
        ],
        axis=1,
    ).astype(float)  # (images, models, seeds)
    groups = np.array([a["tone"] for a in table["attributes"]])
    gap = group_gap(groups)

    def difference(values):
        return np.mean([gap(values[:, :, 0, s]) - gap(values[:, :, 1, s]) for s in range(2)], axis=0)

    drawn = resampled(difference, right, groups, 4000, 0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (line["low_images"], line["high_images"]) == pytest.approx((low, high), abs=0.006)
    expected = statistic_effect(line["effect"], np.array(line["by_seed"]), drawn, COUNT)
    assert line["p"] == pytest.approx(expected.p, abs=0.02)
    assert line["low"] <= min(line["low_images"], expected.low + 0.01)


def test_equal_models_do_not_differ(measured, images):
    table, said = outcomes(images, {("real", 0): BIASED, ("other", 0): BIASED})
    said["other", 0] = said["real", 0]
    table = measured(table, said, CLASSES).table("differences")
    assert (table["effect"] == 0).all()
    assert (table["p"] == 1).all()
    assert (table[["low", "high", "low_images", "high_images"]] == 0).all(axis=None), "the same images for both"


def test_p_values_are_corrected_in_each_family(measured, images):
    models = {(m, 0): a for m, a in (("a", FAIR), ("b", BIASED), ("c", (0.8, 0.7)))}
    table, said = outcomes(images, models)
    found = measured(table, said, CLASSES, tested=["accuracy", "accuracy gap", "worst-group AUROC"]).table(
        "differences"
    )
    families = found.groupby(["split", "axis", "measure"])
    assert len(families) == 3
    for _, mine in families:
        assert len(mine) == 3
        assert mine["p_holm"].to_numpy() == pytest.approx(holm(mine["p"].to_numpy()))
    assert (found["counted"] == "images only").all(), "nothing is known of other seeds"


def test_all_models_are_compared_with_the_reference(measured, images):
    models = {(m, 0): a for m, a in (("a", FAIR), ("b", BIASED), ("c", (0.8, 0.7)))}
    found = measured(*outcomes(images, models), CLASSES, reference="b").table("differences")
    assert set(zip(found["model"], found["than"], strict=True)) == {("a", "b"), ("c", "b")}


def test_a_model_without_a_seed_is_compared_with_every_seed(measured, images):
    models = {("external/theirs", -1): FAIR, ("real", 0): BIASED, ("real", 1): (0.8, 0.5)}
    result = measured(*outcomes(images, models), CLASSES)
    line = lines(result, "accuracy gap").loc[("external/theirs", "real")]
    assert list(line["seeds"]) == [0, 1]
    rows = result.table()
    gaps = rows[(rows["metric"] == "accuracy gap") & (rows["split"] == "in distribution")].set_index(["model", "seed"])
    theirs = gaps.loc[("external/theirs", -1), "value"]
    assert line["by_seed"] == pytest.approx([theirs - gaps.loc[("real", s), "value"] for s in (0, 1)])


def test_other_seeds_are_an_error(measured, images):
    models = {("mixed", 0): FAIR, ("mixed", 2): FAIR, ("real", 0): FAIR, ("real", 1): FAIR}
    with pytest.raises(AmalgamError, match="mixed and real were not evaluated with the same seeds"):
        measured(*outcomes(images, models), CLASSES)


def test_it_calls_few_that_do_not_differ_different():
    """Two models of one method, three seeds each that vary: at most 7 of 80 comparisons of the gap are significant.

    Of images alone it would be far more.
    """
    wrong = {"images and seeds": 0, "images only": 0}
    for trial in range(80):
        rng = np.random.default_rng(trial)
        drawn = [np.concatenate(list(weights(200, 200, seed)), axis=1) for seed in (2 * trial, 2 * trial + 1)]
        hardness, family = rng.random((2, 200)), Family(400)
        for model in ("a", "b"):
            family.samples[model] = {}
            for seed in range(3):
                right = hardness < (np.array(BIASED) + rng.normal(0, 0.05, 2))[:, None]
                first, second = (r.astype(float) @ w / 200 for r, w in zip(right, drawn, strict=True))
                family.samples[model][seed] = np.abs(first - second)
        (line,) = compare(FairnessConfig(), {("in distribution", "tone", "accuracy gap"): family})
        wrong[line["counted"]] += line["p"] <= 0.05
        wrong["images only"] += not line["low_images"] <= 0 <= line["high_images"]
    assert wrong["images and seeds"] <= 7
    assert wrong["images only"] > 15


def test_one_model_is_compared_with_none(written, images):
    table, said = outcomes(images, {("real", 0): BIASED})
    out, summary = written(table, said, CLASSES)
    assert len(pd.read_parquet(out / "differences.parquet")) == 0
    assert summary.figures["significant after Holm"] == 0
