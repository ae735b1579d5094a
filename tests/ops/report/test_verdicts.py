"""Verdicts on claims from outcomes that are known."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.errors import AmalgamError
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
    pq.write_table(pa.Table.from_pandas(table), folder / "predictions.parquet")
    return folder


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


def test_the_worst_group_decides_and_is_named(tmp_path, folders, recorder):
    """Of 400 images a fifth are of group 1, which both models see worse; unlabelled images say nothing of groups."""
    groups = (["0"] * 4 + ["1"]) * 80
    real, mixed = np.ones(400, bool), np.ones(400, bool)
    rare = np.flatnonzero(np.array(groups) == "1")
    real[rare[:40]], mixed[rare[:10]] = False, False
    groups[rare[0]] = None
    outcomes = {("classifier/real", s): real for s in (0, 1)} | {("classifier/mixed", s): mixed for s in (0, 1)}
    robustness = predictions(tmp_path / "r", outcomes, groups)
    (out,) = folders("claims")
    tests = [claim("worst_group"), claim("gap"), claim("clean")]
    judge_claims(ClaimsConfig(tests=tests, replicates=500), robustness, tmp_path, out, recorder)
    worst, gap, clean = json.loads((out / "claims.json").read_text())
    assert worst["effect"] == pytest.approx(30 / 79)
    assert worst["holds"] is True
    assert gap["effect"] == pytest.approx(30 / 79), "the other group is always right"
    assert (worst["n"], gap["n"], clean["n"]) == (399, 399, 400)
    assert worst["worst groups"] == {"classifier/mixed": "tone=1", "classifier/real": "tone=1"}
    assert clean["worst groups"] == {}


def test_a_claim_about_an_unknown_model_is_named(tmp_path, folders, recorder):
    robustness = predictions(tmp_path / "r", {("classifier/real", 0): np.ones(5, bool)}, ["0"] * 5)
    (out,) = folders("claims")
    with pytest.raises(AmalgamError, match="classifier/mixed"):
        judge_claims(ClaimsConfig(tests=[claim("clean")]), robustness, tmp_path, out, recorder)
