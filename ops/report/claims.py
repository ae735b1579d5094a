"""What the papers claim, what was measured here, and whether it holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ops.errors import AmalgamError
from ops.evaluate.fairness import read_predictions
from ops.evaluate.intervals import bootstrap, group_gap
from ops.evaluate.measurements import NO_SEED, NO_THREAT, write_measurements
from ops.files import write_json
from ops.progress import Monitor
from ops.report.config import Claim, ClaimsConfig
from ops.runtime import derive_seed
from ops.summary import Summary


def judge_claims(config: ClaimsConfig, robustness: Path, fairness: Path, out: Path, monitor: Monitor) -> Summary:
    """Write `claims.json`: one verdict for each claim, from the outcomes of single images.

    The effect is oriented so that a positive number is what the paper claims. Its interval is a paired bootstrap over
    images: both models and all seeds on one image are resampled together, so that it holds for these training seeds and
    new images; with few seeds, variation between seeds is not in it (`effect by seed` shows it). `holds` is true if the
    interval is above 0, false if it is below, and null where this scale cannot tell.
    """
    table = read_predictions(robustness, config.attribute)
    verdicts, rows = [], []
    for done, claim in enumerate(config.tests, start=1):
        verdict = judge(config, claim, table)
        verdicts.append(verdict)
        rows.append(
            {
                "model": claim.better,
                "dataset": "claims",
                "split": "+".join(claim.splits),
                "group": "all",
                "metric": f"{claim.measure} effect against {claim.than}",
                "value": verdict["effect"],
                "low": verdict["low"],
                "high": verdict["high"],
                "n": verdict["n"],
                "seed": NO_SEED,
            }
        )
        monitor.progress(done, len(config.tests), "claim")
    write_json(out / "claims.json", verdicts)
    write_measurements(out / "measurements.parquet", rows)
    held = [v["holds"] for v in verdicts]
    figures = {
        "claims": len(verdicts),
        "hold": held.count(True),
        "do not hold": held.count(False),
        "cannot tell": held.count(None),
    }
    lines: list[dict[str, Any]] = [
        {
            "claim": v["claim"],
            "effect": f"{v['effect']:+.3f} [{v['low']:+.3f}, {v['high']:+.3f}]",
            "holds": {True: "yes", False: "no", None: "cannot tell"}[v["holds"]],
        }
        for v in verdicts
    ]
    return Summary(figures, {"claims": lines})


def judge(config: ClaimsConfig, claim: Claim, table: pd.DataFrame) -> dict[str, Any]:
    """Return the verdict on one claim; raises AmalgamError if a model or split was not evaluated."""
    mine = table[table["split"].isin(claim.splits)]
    for model in (claim.better, claim.than):
        if model not in set(mine["model"]):
            known = ", ".join(sorted(set(table["model"])))
            raise AmalgamError(
                f"the claim {claim.claim!r} names {model!r}, which was not evaluated", f"use one of: {known}"
            )
    outcomes, groups = _outcomes(claim, mine)
    effects = outcomes[:, 0] - outcomes[:, 1]  # (images, seeds)
    seed = derive_seed(config.seed, claim.claim)
    if claim.measure == "gap":
        gap = group_gap(groups)

        def statistic(values: np.ndarray) -> np.ndarray:
            seeds = range(values.shape[3])
            return np.mean([gap(values[:, :, 1, s]) - gap(values[:, :, 0, s]) for s in seeds], axis=0)

        by_seed = [
            float(gap(outcomes[None, :, 1, s])[0] - gap(outcomes[None, :, 0, s])[0]) for s in range(outcomes.shape[2])
        ]
        effect, low, high = bootstrap(statistic, outcomes, groups, config.replicates, seed)
    else:
        by_seed = [float(v) for v in effects.mean(axis=0)]
        strata = np.zeros(len(effects), np.int64)
        effect, low, high = bootstrap(lambda v: v.mean(axis=(1, 2)), effects, strata, config.replicates, seed)
    low, high = min(low, effect), max(high, effect)
    holds = True if low > 0 else False if high < 0 else None
    return {
        **{name: getattr(claim, name) for name in ("claim", "source", "paper_effect", "measure", "splits")},
        "comparison": f"{claim.better} against {claim.than}",
        "effect": effect,
        "low": low,
        "high": high,
        "effect by seed": by_seed,
        "seeds": len(by_seed),
        "n": len(outcomes),
        "holds": holds,
    }


def _outcomes(claim: Claim, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes (images, 2 models, seeds) of the claim's measure, and the group of each image."""
    threats = [threat for threat in dict.fromkeys(table["threat"]) if threat != NO_THREAT]
    wanted = {"clean": [NO_THREAT], "gap": [NO_THREAT], "robust": threats[:1], "worst_threat": threats}
    table = table[table["threat"].isin(wanted[claim.measure])]
    parts = []
    for model in (claim.better, claim.than):
        one = table[table["model"] == model]
        parts.append(one.groupby(["split", "id", "seed"])["robust"].min().unstack("seed"))
    better, than = _with_seeds(*parts), _with_seeds(*reversed(parts))
    if not (better.index.equals(than.index) and better.columns.equals(than.columns)):
        raise AmalgamError(
            f"{claim.better} and {claim.than} were not evaluated on the same images and seeds", "run robustness again"
        )
    groups = table.drop_duplicates(["split", "id"]).set_index(["split", "id"])["group"].reindex(better.index)
    return np.stack([better.to_numpy(np.float64), than.to_numpy(np.float64)], axis=1), groups.to_numpy(dtype=str)


def _with_seeds(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes (images, seeds) of `one`; a model without a seed is the same against every seed of `other`."""
    if list(one.columns) != [NO_SEED]:
        return one
    return pd.DataFrame({seed: one[NO_SEED] for seed in other.columns}).rename_axis(columns=other.columns.name)
