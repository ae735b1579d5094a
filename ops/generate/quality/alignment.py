"""Does an image show what was asked for? Judges, trained on real images, recover label, domain and attributes.

A judge is a logistic regression on features of other networks than the generator's. What it reaches on real held-out
images is the ceiling: below it, an error can be the judge's. A source that repeats training images, which the judges
know, can lie above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ops.errors import AmalgamError
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row
from ops.generate.quality.checks import REAL, Compared, Pool, factors_of, values_of
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.groups import Row, outcome_rows
from ops.progress import Monitor

ALL = "all factors"
ITERATIONS = 300


@dataclass(frozen=True)
class Judges:
    """One judge for each factor (column of the manifest), on features side by side."""

    centres: tuple[np.ndarray, ...]
    scales: tuple[float, ...]
    judges: Mapping[str, Any]

    def see(self, features: tuple[np.ndarray, ...], factor: str) -> np.ndarray:
        """Return the value of `factor` (N,) that its judge sees in each image."""
        return np.asarray(self.judges[factor].predict(_side_by_side(features, self.centres, self.scales)))

    def right(self, features: tuple[np.ndarray, ...], table: pd.DataFrame) -> pd.DataFrame:
        """Return for each image and factor whether the judge sees what the table says (N, factors)."""
        x = _side_by_side(features, self.centres, self.scales)
        return pd.DataFrame({f: judge.predict(x) == table[f].to_numpy() for f, judge in self.judges.items()})

    def known(self, table: pd.DataFrame) -> np.ndarray:
        """Return whether the judges know all values of an image (N,) bool; nobody saw the others in training."""
        return np.all([table[f].isin(judge.classes_) for f, judge in self.judges.items()], axis=0)


def train_judges(config: QualityConfig, features: tuple[np.ndarray, ...], table: pd.DataFrame) -> Judges:
    """Return judges of all factors that vary, trained on real images.

    Args:
        config: how strongly judges are regularised.
        features: of each space of `config.judges` (N, D).
        table: the manifest rows.

    Every space is centred and divided by one number, so that each weighs as much: single features that hardly vary in
    real images would else decide about generated ones. Values count alike, however rare (`class_weight="balanced"`).
    """
    from sklearn.linear_model import LogisticRegression

    centres = tuple(part.mean(axis=0) for part in features)
    scales = tuple(
        float(np.sqrt(((part - c) ** 2).sum(axis=1).mean())) or 1.0 for part, c in zip(features, centres, strict=True)
    )
    x = _side_by_side(features, centres, scales)
    judges = {}
    for factor in factors_of(table):
        told = table[factor].notna().to_numpy()
        judge = LogisticRegression(C=config.judge_strength, max_iter=ITERATIONS, class_weight="balanced")
        judges[factor] = judge.fit(x[told], table[factor][told])
    return Judges(centres, scales, judges)


def alignment_rows(config: QualityConfig, dataset: str, sets: Compared, monitor: Monitor) -> list[Row]:
    """Return how often each factor, and all together, are recovered from each source (Wilson), by group too.

    Rows of `real` are the ceiling on a held-out split. Rows of sources stand beside the ceiling of every split; they do
    not depend on it.

    Raises AmalgamError if no factor varies in training, or `config.count_attribute` is none with numbers.
    """
    if not factors_of(sets.train.table):
        raise AmalgamError(
            "training images differ in nothing that could be asked for", "use a dataset with two classes"
        )
    _check_counts(config, sets.train.table)
    judges = train_judges(config, _judged(config, sets.train), sets.train.table)
    rows: list[Row] = []
    for done, (split, real) in enumerate(sets.held_out.items(), start=1):
        for model, pool in {REAL: real, **sets.sources}.items():
            known = judges.known(pool.table)
            if not known.all():
                monitor.note(
                    f"{(~known).sum()} images of {pool.title} show or ask for what no training image shows: not judged"
                )
            if known.any():
                table = pool.table[known].reset_index(drop=True)
                right = judges.right(tuple(part[known] for part in _judged(config, pool)), table)
                rows += _rows(config, (model, dataset, split), sets, right, table)
        monitor.progress(done, len(sets.held_out), "split judged")
    return rows


def _rows(
    config: QualityConfig, where: tuple[str, str, str], sets: Compared, right: pd.DataFrame, table: pd.DataFrame
) -> list[Row]:
    """Return the rows of one source: every factor, all of them, by group, by number, and by how common combinations are."""
    rows: list[Row] = []
    expected = values_of(sets.train.table[sets.column], 1)
    together = right.all(axis=1).to_numpy()
    outcomes = {_name(f): right[f].to_numpy() for f in right.columns} | {ALL: together}
    for name, mine in outcomes.items():
        metric = f"alignment ({name})"
        rows.append(row(*where, "all", metric, wilson(int(mine.sum()), len(mine)), len(mine)))
        values = table[sets.column].to_numpy()
        rows += outcome_rows(config, where, metric, mine, values, sets.attribute, expected)
        if name == config.count_attribute and name != sets.attribute:
            numbers = table[f"attribute:{name}"].to_numpy()
            rows += outcome_rows(config, where, metric, mine, numbers, name, values_of(table[f"attribute:{name}"], 1))
    seen = _times_seen(sets, table)
    for title, chosen in (
        ("never seen", seen == 0),
        (f"seen 1 to {config.rare} times", (seen > 0) & (seen <= config.rare)),
        (f"seen more than {config.rare} times", seen > config.rare),
    ):
        if chosen.any():
            metric = f"alignment ({ALL}, class and {sets.attribute} {title})"
            mine = together[chosen]
            rows.append(row(*where, "all", metric, wilson(int(mine.sum()), len(mine)), len(mine)))
    return rows


def _times_seen(sets: Compared, table: pd.DataFrame) -> np.ndarray:
    """Return how many training images have the class and group of each image (N,)."""
    pair = ["label", sets.column]
    counts = sets.train.table.groupby(pair).size()
    return counts.reindex(pd.MultiIndex.from_frame(table[pair]), fill_value=0).to_numpy()


def _check_counts(config: QualityConfig, table: pd.DataFrame) -> None:
    name = config.count_attribute
    if name is None:
        return
    column = table.get(f"attribute:{name}")
    if column is None or not column.dropna().str.isdecimal().all():
        raise AmalgamError(
            f"quality.count_attribute is {name}, which is no attribute with numbers",
            "name an attribute whose values are numbers of things, or null if captions have none",
        )


def _side_by_side(
    features: tuple[np.ndarray, ...], centres: tuple[np.ndarray, ...], scales: tuple[float, ...]
) -> np.ndarray:
    return np.hstack([(f - c) / s for f, c, s in zip(features, centres, scales, strict=True)])


def _judged(config: QualityConfig, pool: Pool) -> tuple[np.ndarray, ...]:
    return tuple(pool.features[space] for space in config.judges)


def _name(factor: str) -> str:
    """Return a column's name for people, the one that rows of groups have."""
    return "class" if factor == "label" else factor.removeprefix("attribute:")
