"""What the papers claim, what was measured here, and whether it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ops.errors import AmalgamError
from ops.evaluate.fairness.groups import read_grouped
from ops.evaluate.fairness.names import group_name
from ops.evaluate.intervals import Interval, group_means, resampled
from ops.evaluate.measurements import NO_SEED, NO_THREAT, write_measurements
from ops.evaluate.pairing import outcomes_by_image, paired
from ops.evaluate.significance import Effect, bootstrap_mean, mean_effect, statistic_effect
from ops.files import write_json
from ops.progress import Monitor
from ops.report.config import Claim, ClaimsConfig
from ops.runtime import derive_seed
from ops.summary import Summary


def judge_claims(config: ClaimsConfig, robustness: Path, fairness: Path, out: Path, monitor: Monitor) -> Summary:
    """Write `claims.json`: one verdict for each claim, from the outcomes of single images.

    The effect is oriented so that a positive number is what the paper claims. A paper claims something of a method, not
    of some weights; therefore `low` to `high` is a 95 % interval over new images and new training seeds
    (`ops.evaluate.significance`), the more cautious the fewer seeds there are, and never inside that over images. With a
    single seed it is over images only, and `counted` says so. `low over images` to `high over images` is the paired
    bootstrap for the weights at hand, in which models and seeds on one image stay together. `holds` is true if `low` is
    above 0, false if `high` is below, and null where this scale cannot tell.
    """
    table = read_grouped(robustness, config.attribute)
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
    outcomes, groups, seeds = _outcomes(claim, mine)
    by_group = claim.measure in OF_GROUPS
    effect, by_seed, over_images = (_of_groups if by_group else _mean)(config, claim, outcomes, groups)
    # seeds that happen to agree make nothing surer than images do; shares and gaps differ by no more than 1
    low, high = max(min(effect.low, over_images[1]), -1.0), min(max(effect.high, over_images[2]), 1.0)
    return {
        **{name: getattr(claim, name) for name in ("claim", "source", "paper_effect", "measure", "splits")},
        "comparison": f"{claim.better} against {claim.than}",
        "effect": effect.effect,
        "low": low,
        "high": high,
        "counted": effect.counted,
        "p": effect.p,
        "low over images": over_images[1],
        "high over images": over_images[2],
        "effect by seed": [float(value) for value in by_seed],
        "seeds": len(seeds),
        "n": len(outcomes),
        "worst groups": _worst_groups(config, claim, outcomes, groups) if by_group else {},
        "holds": True if low > 0 else False if high < 0 else None,
    }


OF_GROUPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gap": lambda means: means.min(axis=1) - means.max(axis=1),
    "worst_group": lambda means: means.min(axis=1),
}
"""Measures of the accuracy of groups (R, G), such that more is better."""

Judged = tuple[Effect, np.ndarray, Interval]
"""The effect with its interval over images and seeds, the effect of each seed, and the interval over images only."""


def _mean(config: ClaimsConfig, claim: Claim, outcomes: np.ndarray, groups: np.ndarray) -> Judged:
    """Judge a difference of accuracies of outcomes (images, 2 models, seeds)."""
    differences = outcomes[:, 0] - outcomes[:, 1]
    over_images = bootstrap_mean(differences, config.replicates, derive_seed(config.seed, claim.claim))
    return mean_effect(differences), differences.mean(axis=0), over_images


def _of_groups(config: ClaimsConfig, claim: Claim, outcomes: np.ndarray, groups: np.ndarray) -> Judged:
    """Judge a difference of gaps or of worst groups, of outcomes (images, 2 models, seeds)."""
    statistic, means = OF_GROUPS[claim.measure], group_means(groups)

    def by_seed(values: np.ndarray) -> np.ndarray:
        """Return the differences (R, seeds) of outcomes (R, images, 2 models, seeds); more is better."""
        seeds = range(values.shape[3])
        first, second = ([statistic(means(values[:, :, m, s])) for s in seeds] for m in (0, 1))
        return np.stack(first, axis=1) - np.stack(second, axis=1)

    seed = derive_seed(config.seed, claim.claim)
    replicates = resampled(lambda v: by_seed(v).mean(axis=1), outcomes, groups, config.replicates, seed)
    found = by_seed(outcomes[None])[0]
    effect = statistic_effect(float(found.mean()), found, replicates, len(outcomes))
    low, high = np.percentile(replicates, [2.5, 97.5])
    return effect, found, (effect.effect, min(float(low), effect.effect), max(float(high), effect.effect))


def _worst_groups(config: ClaimsConfig, claim: Claim, outcomes: np.ndarray, groups: np.ndarray) -> dict[str, str]:
    """Return the worst group of both models, seeds averaged."""
    means = group_means(groups)(outcomes.mean(axis=2).T)
    names = np.unique(groups)[means.argmin(axis=1)]
    return {
        model: group_name(config.attribute, str(name))
        for model, name in zip((claim.better, claim.than), names, strict=True)
    }


def _outcomes(claim: Claim, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return outcomes (images, 2 models, seeds) of the claim's measure, the group of each image, and the seeds."""
    threats = [threat for threat in dict.fromkeys(table["threat"]) if threat != NO_THREAT]
    if claim.measure in OF_GROUPS:
        table = table[table["group"].notna()]  # images that are of no known group
    wanted = {name: [NO_THREAT] for name in ("clean", *OF_GROUPS)} | {"robust": threats[:1], "worst_threat": threats}
    table = table[table["threat"].isin(wanted[claim.measure]) & table["model"].isin([claim.better, claim.than])]
    missing = [split for split in claim.splits if split not in set(table["split"])]
    if missing:
        raise AmalgamError(
            f"the claim {claim.claim!r} is about {claim.measure} on {', '.join(missing)}, for which there are no outcomes",
            "add them to robustness.splits, and to robustness.attacked if robustness is claimed",
        )
    by_image = outcomes_by_image(table)
    values, seeds = paired(by_image, claim.better, claim.than)
    groups = table.drop_duplicates(["split", "id"]).set_index(["split", "id"])["group"]
    return values, groups.reindex(by_image[claim.better].index).to_numpy(dtype=str), seeds
