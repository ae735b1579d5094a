"""Which models differ in fairness by more than chance: paired tests of statistics that are no means over images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ops.errors import AmalgamError
from ops.evaluate.comparisons import EFFECT, PAIR, model_pairs
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.resampling import intervals
from ops.evaluate.measurements import NO_SEED
from ops.evaluate.significance import holm, statistic_effect

SCHEMA = pa.schema(
    [
        *PAIR,
        ("axis", pa.string()),
        ("measure", pa.string()),
        *EFFECT,
        ("by_seed", pa.list_(pa.float64())),
    ]
)
"""See `comparisons.EFFECT`; for gaps less is better. A family is all pairs under one measure, axis and split. The bootstrap
draws images within groups, and they bring all models and seeds; `by_seed` is the effect of each seed."""


@dataclass
class Family:
    """One measure along one axis of one part, of every model."""

    images: int
    samples: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    """By model and seed: the measure in the sample and in the bootstrap samples (samples,), the same ones for all."""


Families = dict[tuple[str, str, str], Family]
"""By split, axis and measure."""


def compare(config: FairnessConfig, families: Mapping[tuple[str, str, str], Family]) -> list[dict[str, Any]]:
    """Return a line of `SCHEMA` for every pair of models in every family.

    Each model has its own worst group, best group and gap in each sample. Seeds are a random effect, as in
    `significance.statistic_effect`. Raises AmalgamError for a reference that was not evaluated, and for models with
    different seeds.
    """
    lines: list[dict[str, Any]] = []
    for (split, axis, measure), family in families.items():
        pairs = model_pairs(config.reference, sorted(family.samples), "fairness.reference")
        mine = [_line(family, pair) for pair in pairs]
        for line, adjusted in zip(mine, holm(np.array([line["p"] for line in mine])), strict=True):
            lines.append({"split": split, "axis": axis, "measure": measure, **line, "p_holm": float(adjusted)})
    return lines


def _line(family: Family, pair: tuple[str, str]) -> dict[str, Any]:
    seeds, first, second = _with_same_seeds(family, *pair)
    difference = first - second  # (seeds, samples)
    by_seed, mean = difference[:, 0], difference.mean(axis=0)
    found = statistic_effect(float(mean[0]), by_seed, mean[1:][~np.isnan(mean[1:])], family.images)
    _, low, high = intervals(mean).tolist()
    return {
        "model": pair[0],
        "than": pair[1],
        "effect": found.effect,
        # seeds that happen to agree make nothing surer than images do; these measures differ by no more than 1
        "low": max(min(found.low, low), -1.0),
        "high": min(max(found.high, high), 1.0),
        "counted": found.counted,
        "low_images": low,
        "high_images": high,
        "p": found.p,
        "df": found.df,
        "n": family.images,
        "seeds": seeds,
        "by_seed": by_seed.tolist(),
    }


def _with_same_seeds(family: Family, model: str, than: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return seeds and samples (seeds, samples) of both; a model without a seed is compared with every seed of the other."""
    first, second = family.samples[model], family.samples[than]
    if list(first) == [NO_SEED]:
        first = dict.fromkeys(second, first[NO_SEED])
    elif list(second) == [NO_SEED]:
        second = dict.fromkeys(first, second[NO_SEED])
    seeds = sorted(first)
    if seeds != sorted(second):
        raise AmalgamError(f"{model} and {than} were not evaluated with the same seeds", "run robustness again")
    return seeds, np.stack([first[s] for s in seeds]), np.stack([second[s] for s in seeds])
