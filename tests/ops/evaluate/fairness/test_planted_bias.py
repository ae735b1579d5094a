"""Gaps that were put there are found, in and out of distribution, at the operating point that was asked for."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

CLASSES = ["healthy", "ill"]


def scores(rng, labels, tones, shift):
    """Return probabilities of being ill, such that the AUROC of a tone is Phi(shift / sqrt 2)."""
    x = rng.normal(size=len(labels)) + np.where(labels == "ill", shift[tones], 0)
    share = norm.cdf(x - shift[tones] / 2)
    return np.stack([1 - share, share], axis=1)


def planted(images, seed, per_group=150, shifts=None):
    """Return images of three splits in three tones, and probabilities; the shift of a tone says how well it is seen."""
    rng = np.random.default_rng(seed)
    shifts = shifts or {"validation": [2, 2, 2], "test": [2.0, 2.0, 1.0], "shift_seen": [1.6, 1.2, 0.4]}
    tables, said = [], []
    for split, by_tone in shifts.items():
        tones = np.repeat([0, 1, 2], per_group)
        labels = np.array(CLASSES, object)[rng.integers(0, 2, len(tones))]
        tables.append(images(labels, split=split, tone=tones.astype(str)))
        said.append(scores(rng, labels, tones, np.array(by_tone, float)))
    return pd.concat(tables, ignore_index=True), np.concatenate(said)


SETTINGS = {"positive": ["ill"], "out_of_distribution": ["shift_seen"]}


def truth(shifts):
    """Return accuracy and AUROC of each tone, by the normal distribution."""
    return norm.cdf(np.array(shifts) / 2), norm.cdf(np.array(shifts) / np.sqrt(2))


def test_planted_gaps_are_within_their_intervals(measured, images):
    """Of 20 sets at least 18 intervals of each kind hold what was planted, and the worst group is nearly always found."""
    held, named, sets = {}, 0, 20
    for seed in range(sets):
        table, said = planted(images, seed)
        result = measured(table, said, CLASSES, unmeasured=("validation",), **SETTINGS)
        inside, outside = truth([2.0, 2.0, 1.0]), truth([1.6, 1.2, 0.4])
        wanted = {}
        for part, exact in (("in distribution", inside), ("out of distribution", outside)):
            for metric, values in zip(("accuracy", "AUROC"), exact, strict=True):
                wanted[part, f"{metric} gap", "tone"] = np.ptp(values)
                wanted[part, metric, "all"] = values.mean() if metric == "accuracy" else None
                worst = result.table()
                worst = worst[(worst["split"] == part) & (worst["metric"] == f"worst-group {metric}")].iloc[0]
                key = (part, f"worst-group {metric}")
                held[key] = held.get(key, 0) + (worst["low"] <= values.min() <= worst["high"])
                named += worst["group"] == "tone=2"
        for metric, (first, second) in zip(("accuracy", "AUROC"), zip(inside, outside, strict=True), strict=True):
            moved = f"difference in {metric} gap from in distribution"
            wanted["out of distribution", moved, "tone"] = np.ptp(second) - np.ptp(first)
        for (part, metric, group), exact in wanted.items():
            if exact is not None:
                row = result.one(metric, group, part)
                held[part, metric] = held.get((part, metric), 0) + (row["low"] <= exact <= row["high"])
    assert min(held.values()) >= 0.9 * sets, held
    assert named >= 0.95 * 4 * sets


def test_what_is_lost_out_of_distribution_is_the_difference(measured, images):
    table, said = planted(images, 3)
    result = measured(table, said, CLASSES, unmeasured=("validation",), **SETTINGS)
    for metric, group in (("accuracy", "all"), ("AUROC", "all"), ("accuracy gap", "tone"), ("AUROC gap", "tone")):
        first, second = (result.one(metric, group, f"{part} distribution") for part in ("in", "out of"))
        moved = result.one(f"difference in {metric} from in distribution", group, "out of distribution")
        assert moved["value"] == pytest.approx(second["value"] - first["value"])
        assert moved["low"] < moved["value"] < moved["high"]
    assert "out of distribution" not in set(measured(table, said, CLASSES, positive=["ill"]).table()["split"])


@pytest.mark.parametrize("specificity", [0.8, 0.95])
def test_thresholds_are_the_lowest_that_the_other_split_allows(measured, images, specificity):
    """And sensitivity and specificity are read off there, on images that had no part in it."""
    table, said = planted(images, 1)
    point = {"split": "validation", "specificity": specificity}
    result = measured(
        table, said, CLASSES, unmeasured=("validation",), operating_point=point, high_risk=["ill"], **SETTINGS
    )
    score, split = np.log(said[:, 1]).astype(np.float32), table["split"].to_numpy()
    ill = (table["label"] == "ill").to_numpy()
    negatives = score[(split == "validation") & ~ill]
    allowed = [t for t in negatives if (negatives <= t).mean() >= specificity]
    chosen = score > min(allowed)
    tones = np.array([each["tone"] for each in table["attributes"]])
    for part, name in (("in distribution", "test"), ("out of distribution", "shift_seen")):
        for tone in "012":
            mine = (tones == tone) & (split == name)
            found = result.one("sensitivity", f"tone={tone}", part)["value"]
            assert found == pytest.approx(chosen[mine & ill].mean())
            assert found == result.one("high-risk sensitivity", f"tone={tone}", part)["value"]
            found = result.one("specificity", f"tone={tone}", part)["value"]
            assert found == pytest.approx(1 - chosen[mine & ~ill].mean())
    plain = measured(table, said, CLASSES, unmeasured=("validation",), **SETTINGS)
    assert plain.one("accuracy gap", "tone")["value"] == result.one("accuracy gap", "tone")["value"]
    assert plain.one("specificity", "all")["value"] != result.one("specificity", "all")["value"]


def test_splits_are_taken_together(measured, images):
    table, said = planted(images, 2, shifts={"test": [2, 2, 1], "near": [1, 1, 1], "shift_seen": [1, 1, 0]})
    result = measured(table, said, CLASSES, in_distribution=["test", "near"], out_of_distribution=["shift_seen"])
    right = np.array(CLASSES, object)[said.argmax(axis=1)] == table["label"].to_numpy()
    tones, split = np.array([a["tone"] for a in table["attributes"]]), table["split"].to_numpy()
    mine = (tones == "2") & (split != "shift_seen")
    row = result.one("accuracy", "tone=2")
    assert (row["value"], row["n"]) == (pytest.approx(right[mine].mean()), 300)
    for name in ("test", "near", "shift_seen"):
        mine = (tones == "0") & (split == name)
        assert result.one("accuracy", "tone=0", name)["value"] == pytest.approx(right[mine].mean())
