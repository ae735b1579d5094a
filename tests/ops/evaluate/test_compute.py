"""Robust accuracy against passes: by hand, and against the outcomes it ends with."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from ops.evaluate.compute import budgets_up_to, compute_rows
from ops.evaluate.measurements import read_measurements
from ops.report.html import PICTURES
from tests.ops.evaluate.test_evaluation import CPU, measure, models  # noqa: F401 (a fixture)


def outcomes(clean, robust, passes):
    common = {"model": "m", "seed": 0, "split": "test", "threat": "linf 4/255"}
    attacked = pd.DataFrame({"clean": clean, "robust": robust, "passes": passes}).assign(**common)
    return pd.concat([attacked, attacked.assign(threat="none", passes=0)])


def test_rows_by_hand():
    """Five images: one wrong from the start, two that fall at 3 and at 8 passes, two that stand after 20."""
    found = outcomes([False, True, True, True, True], [False, False, False, True, True], [0, 3, 8, 20, 20])
    share = {row["passes"]: row["value"] for row in compute_rows(found, "d")}
    assert list(share)[:3] == [0, 1, 2]
    assert max(share) >= 20
    assert [share[b] for b in (0, 2, 3, 7, 8, max(share))] == [0.8, 0.8, 0.6, 0.6, 0.4, 0.4]


@given(st.integers(0, 10**6))
def test_budgets_reach_as_far_as_attacks_went(most):
    budgets = budgets_up_to(most)
    assert budgets[0] == 0
    assert budgets[-1] >= most
    assert (np.diff(budgets) > 0).all()
    assert (budgets[1:] <= np.maximum(1.19 * budgets[:-1] + 1, 1)).all()
    assert set(budgets) <= set(budgets_up_to(2 * most))


def test_curves_run_from_clean_to_robust_accuracy(models, shards, folders, recorder):  # noqa: F811
    attacks = [{"name": "pgd", "steps": 5}, {"name": "apgd-ce", "steps": 6}]
    out = measure(models, shards, folders, recorder, attacks=attacks)
    rows, curve = read_measurements(out), pq.read_table(out / "compute.parquet").to_pandas()
    predictions = pq.read_table(out / "predictions.parquet").to_pandas()
    attacked = predictions[predictions["threat"] != "none"]
    robust = rows[rows["metric"].str.startswith("robust accuracy (linf")].set_index(["model", "seed"])
    keys = list(curve[curve["metric"] == "robust accuracy (linf 4/255)"].groupby(["model", "seed"]))
    assert len(keys) == len(models)
    for key, mine in keys:
        mine = mine.sort_values("passes")
        table = attacked.set_index(["model", "seed", "threat"]).loc[(*key, "linf 4/255")]
        assert mine["value"].iloc[0] == table["clean"].mean()
        assert mine["value"].iloc[-1] == robust.loc[key, "value"]
        assert (mine["value"].diff().dropna() <= 0).all()
        assert mine["value"].between(mine["low"], mine["high"]).all()
    standing = attacked[attacked["robust"]]
    assert set(standing["passes"]) == {(2 * 6 - 1) + 2 * 7}
    assert (attacked.loc[~attacked["clean"], "passes"] == 0).all()
    fallen = attacked[attacked["clean"] & ~attacked["robust"]]
    assert fallen["passes"].between(1, 25).all()
    assert (fallen["passes"] <= 11).sum() >= (~fallen["pgd"]).sum()
    assert (out / "pictures" / "compute.png").exists()
    assert ("robustness", "compute") in [picture[:2] for picture in PICTURES]
