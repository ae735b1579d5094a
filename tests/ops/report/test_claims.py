"""Verdicts on claims count seeds: a method is more than its weights."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.errors import AmalgamError
from ops.evaluate.significance import mean_effect
from ops.report.claims import judge_claims
from ops.report.config import Claim, ClaimsConfig

LINF, L2 = "linf 4/255", "l2 128/255"


@pytest.fixture
def judged(tmp_path, recorder):
    """Return a function that judges one claim on outcomes (images, seeds) of both models by (split, threat)."""

    def verdict(outcomes, measure="clean", splits=("test",), groups=None):
        parts = []
        for (split, threat), both in outcomes.items():
            for model, values in zip(("classifier/mixed", "classifier/real"), both, strict=True):
                for seed, right in enumerate(values.T):
                    part = pd.DataFrame(
                        {"id": [f"{split}-{n}" for n in range(len(right))], "robust": right.astype(bool)}
                    )
                    part["attributes"] = [{"tone": str(g)} for g in (groups if groups is not None else 0 * right)]
                    parts.append(part.assign(model=model, seed=seed, split=split, threat=threat))
        pq.write_table(pa.Table.from_pandas(pd.concat(parts)), tmp_path / "predictions.parquet")
        claim = Claim(
            claim="c", source="s", paper_effect="p", better="classifier/mixed", than="classifier/real",
            measure=measure, splits=list(splits),
        )  # fmt: skip
        judge_claims(ClaimsConfig(tests=[claim], replicates=400), tmp_path, tmp_path, tmp_path, recorder)
        return json.loads((tmp_path / "claims.json").read_text())[0]

    return verdict


def with_gains(*gains, images=400):
    """Return outcomes of both models: the second has half right; the first gains so many more, by seed."""
    real = np.repeat((np.arange(images) < images // 2)[:, None], len(gains), axis=1)
    mixed = np.stack([np.arange(images) < images // 2 + gain for gain in gains], axis=1)
    return mixed, real


def test_seeds_that_disagree_leave_it_open(judged):
    """For these weights it is sure; for the method two seeds, one of which shows nothing, are not enough."""
    outcomes = with_gains(40, 1)
    found = judged({("test", "none"): outcomes})
    expected = mean_effect(outcomes[0].astype(float) - outcomes[1])
    assert (found["effect"], found["low"], found["high"]) == pytest.approx((20.5 / 400, expected.low, expected.high))
    assert found["p"] == pytest.approx(expected.p)
    assert found["holds"] is None
    assert 0 < found["low over images"] < found["effect"] < found["high over images"]
    assert found["effect by seed"] == pytest.approx([0.1, 1 / 400])
    assert found["counted"] == "images and seeds"
    assert judged({("test", "none"): with_gains(40, 38)})["holds"] is True
    assert judged({("test", "none"): with_gains(-40, -38)})["holds"] is False


def test_one_seed_counts_images_only_and_says_so(judged):
    found = judged({("test", "none"): with_gains(40)})
    assert (found["counted"], found["seeds"], found["holds"]) == ("images only", 1, True)
    assert (found["low"], found["high"]) == pytest.approx(
        (found["low over images"], found["high over images"]), abs=0.01
    )


def test_the_gap_counts_seeds_too(judged):
    groups = np.repeat(["0", "1"], 100)
    real = np.stack([np.arange(200) % 100 < np.where(groups == "0", 90, 40)] * 2, axis=1)  # a gap of 0.5 in both seeds
    mixed = np.stack([np.arange(200) % 100 < np.where(groups == "0", 90, low) for low in (85, 45)], axis=1)
    found = judged({("test", "none"): (mixed, real)}, measure="gap", groups=groups)
    assert found["effect by seed"] == pytest.approx([0.45, 0.05])
    assert found["effect"] == pytest.approx(0.25)
    assert found["low over images"] > 0
    assert found["holds"] is None, "the seeds differ too much to say"
    assert found["low"] >= -1
    assert found["high"] <= 1
    single = judged({("test", "none"): (mixed[:, :1], real[:, :1])}, measure="gap", groups=groups)
    assert (single["counted"], single["holds"]) == ("images only", True)
    assert (single["low"], single["high"]) == pytest.approx(
        (single["low over images"], single["high over images"]), abs=0.04
    )


@pytest.mark.parametrize("draw", range(8))
@pytest.mark.parametrize("measure", ["gap", "clean"])
def test_seeds_that_agree_by_chance_make_nothing_surer(judged, measure, draw):
    """A gap of small groups is skewed: an interval from a standard error alone may end inside that over images."""
    rng = np.random.default_rng(draw)
    groups = np.repeat(list("abcd"), [40, 8, 5, 30])
    mixed, real = (np.repeat(rng.random((len(groups), 1)) < share, 2, axis=1) for share in (0.7, 0.5))
    found = judged({("test", "none"): (mixed, real)}, measure=measure, groups=groups)
    assert found["effect by seed"][0] == found["effect by seed"][1]
    assert found["low"] <= found["low over images"] <= found["high over images"] <= found["high"]
    assert (found["holds"] is None) == (found["low"] <= 0 <= found["high"])


def test_measures_are_of_their_threats_and_splits(judged):
    """`robust` is under the first threat, `worst_threat` under all; splits are taken together."""
    outcomes = {
        ("test", "none"): with_gains(100, 98),
        ("near", "none"): with_gains(0, 0, images=200),
        ("test", LINF): with_gains(20, 22, images=100),
        ("test", L2): with_gains(6, 4, images=100),
    }
    assert judged(outcomes, "robust")["effect"] == pytest.approx(0.21)
    assert judged(outcomes, "worst_threat")["effect"] == pytest.approx(0.05)
    together = judged(outcomes, "clean", splits=("test", "near"))
    assert (together["n"], together["effect"]) == (600, pytest.approx(99 / 600))


def test_a_claim_where_nothing_was_attacked_is_named(judged):
    outcomes = {("test", "none"): with_gains(10, 10), ("near", "none"): with_gains(0, 0)}
    outcomes[("test", LINF)] = with_gains(5, 5, images=50)
    with pytest.raises(AmalgamError, match="about robust on near, for which there are no outcomes") as error:
        judged(outcomes, "robust", splits=("test", "near"))
    assert "robustness.attacked" in error.value.remedy


def test_one_image_is_too_few(judged):
    with pytest.raises(AmalgamError, match="cannot be compared on 1 image of test"):
        judged({("test", "none"): with_gains(1, 1, images=1)})
