"""Fairness and claims from outcomes that are known."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ops.errors import AmalgamError
from ops.evaluate.config import FairnessConfig
from ops.evaluate.fairness import measure_fairness
from ops.evaluate.measurements import read_measurements
from ops.report.claims import judge_claims
from ops.report.config import Claim, ClaimsConfig


def predictions(folder, outcomes: dict[tuple[str, int], np.ndarray], groups, threats=("none", "linf 4/255")):
    """Write outcomes (images,) of each (model, seed) as a robustness folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for (model, seed), right in outcomes.items():
        for threat in threats:
            part = pd.DataFrame({"id": [f"i{n}" for n in range(len(right))], "label": "a", "domain": "d"})
            part["attributes"] = [{"tone": g} for g in groups]
            part = part.assign(
                predicted="a", clean=right, robust=right, model=model, seed=seed, split="test", threat=threat
            )
            parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    pq.write_table(__import__("pyarrow").Table.from_pandas(table), folder / "predictions.parquet")
    return folder


def test_fairness_by_hand(shards, folders, recorder, tmp_path):
    groups = ["0"] * 40 + ["1"] * 10
    right = np.array([True] * 30 + [False] * 10 + [True] * 4 + [False] * 6)
    robustness = predictions(tmp_path / "r", {("classifier/real", 0): right}, groups)
    (out,) = folders("fairness")
    measure_fairness(FairnessConfig(attribute="tone", replicates=500), robustness, shards, out, recorder)
    rows = read_measurements(out).set_index(["metric", "group"])
    assert rows.loc[("accuracy", "tone=0"), "value"] == 0.75
    assert rows.loc[("accuracy", "tone=1"), "value"] == 0.4
    assert rows.loc[("worst-group accuracy", "tone=1"), "value"] == 0.4
    gap = rows.loc[("accuracy gap", "all")]
    assert gap["value"] == pytest.approx(0.35)
    assert gap["low"] < 0.35 < gap["high"]
    with pytest.raises(AmalgamError, match="no attribute 'age'"):
        measure_fairness(FairnessConfig(attribute="age"), robustness, shards, out, recorder)


def claim(measure: str) -> Claim:
    return Claim(
        claim=f"claim of {measure}", source="s", paper_effect="p", better="classifier/mixed", than="classifier/real",
        measure=measure, splits=["test"],
    )  # fmt: skip


def verdicts(tmp_path, folders, recorder, real, mixed, measure):
    groups = (["0"] * 4 + ["1"]) * (len(real) // 5)
    outcomes = {("classifier/real", s): real for s in (0, 1)} | {("classifier/mixed", s): mixed for s in (0, 1)}
    robustness = predictions(tmp_path / "r", outcomes, groups)
    (out,) = folders("claims")
    judge_claims(ClaimsConfig(tests=[claim(measure)], replicates=500), robustness, tmp_path, out, recorder)
    return json.loads((out / "claims.json").read_text())[0]


@pytest.mark.parametrize(("gained", "lost", "holds"), [(60, 5, True), (5, 60, False), (12, 10, None), (0, 0, None)])
def test_verdicts_on_paired_outcomes(gained, lost, holds, tmp_path, folders, recorder):
    """The effect is (gained - lost) / n, and the verdict says whether its paired interval excludes 0."""
    real = np.zeros(400, bool)
    real[:200] = True
    mixed = real.copy()
    mixed[200 : 200 + gained] = True
    mixed[:lost] = False
    verdict = verdicts(tmp_path, folders, recorder, real, mixed, "clean")
    assert verdict["effect"] == pytest.approx((gained - lost) / 400)
    assert verdict["holds"] is holds
    sd = np.sqrt((gained + lost) / 400 - ((gained - lost) / 400) ** 2) / 20
    assert verdict["high"] - verdict["low"] == pytest.approx(2 * 1.96 * sd, rel=0.15, abs=1e-9)
    assert verdict["seeds"] == 2


def test_a_smaller_gap_is_the_better_one(tmp_path, folders, recorder):
    real = np.array(([True] * 4 + [False]) * 80)  # group 0 all right, group 1 all wrong
    mixed = np.ones(400, bool)
    verdict = verdicts(tmp_path, folders, recorder, real, mixed, "gap")
    assert verdict["effect"] == pytest.approx(1.0)
    assert verdict["holds"] is True


def test_a_claim_about_an_unknown_model_is_named(tmp_path, folders, recorder):
    robustness = predictions(tmp_path / "r", {("classifier/real", 0): np.ones(5, bool)}, ["0"] * 5)
    (out,) = folders("claims")
    with pytest.raises(AmalgamError, match="classifier/mixed"):
        judge_claims(ClaimsConfig(tests=[claim("clean")]), robustness, tmp_path, out, recorder)
