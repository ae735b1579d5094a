"""Everything that is measured of one model and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ops.evaluate.fairness.answers import Answers
from ops.evaluate.fairness.counting import left_out
from ops.evaluate.fairness.evidence import Evidence, fit_thresholds, gather
from ops.evaluate.fairness.extremes import difference_interval, spread_interval
from ops.evaluate.fairness.groups import Axis, Part
from ops.evaluate.fairness.measured import Measured, Place, aggregate_rows, aggregates, group_rows
from ops.evaluate.fairness.names import ACCURACY, EVERYONE, IN, ODDS, OUT, axis_of, disparity, moved, robust
from ops.evaluate.fairness.part import measure_part
from ops.evaluate.fairness.plan import Plan
from ops.evaluate.fairness.shares import share_by_group
from ops.runtime import derive_seed


@dataclass
class Told:
    """What is told of one model's groups together, by part, axis and measure."""

    samples: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    """In the sample as it is, then in bootstrap samples (samples,)."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, axis: str, name: str, samples: np.ndarray, row: dict[str, Any]) -> None:
        """Add a measure of the part that its row is about."""
        self.samples[row["split"], axis, name] = samples
        self.rows[row["split"], axis, name] = row


@dataclass
class Tables:
    """What was measured so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    by_class: list[dict[str, Any]] = field(default_factory=list)
    small: dict[tuple[str, str, str, str], dict[str, Any]] = field(default_factory=dict)
    """Lines of `counting.LEFT_OUT` by split, axis, group and metric; they are the same for all models."""

    def note(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Note what was left out, unless it is known."""
        for line in lines:
            self.small.setdefault((line["split"], line["axis"], line["group"], line["metric"]), dict(line))


def measure_model(plan: Plan, robustness: Path, answers: Answers, tables: Tables) -> Told:
    """Add the measurements of a model to `tables`, and return what is told of all groups together."""
    attacked = {robust(threat): outcomes for threat, outcomes in answers.robust.items()}
    for part in plan.splits:
        outcomes = {ACCURACY: answers.right.astype(np.float64), **attacked}
        _add_shares(plan, outcomes, answers, part, plan.by_attribute(), tables, Told())
    config, told, thresholds = plan.config, Told(), None
    if config.operating_point:
        thresholds = fit_thresholds(
            config.operating_point, robustness, answers, plan.classes, plan.targets, config.min_count
        )
    for part in plan.pooled:
        evidence = gather(robustness, answers, plan.images, part, plan.labels, plan.targets, thresholds)
        _add_part(plan, evidence, part, Place(answers.folder(), plan.dataset, part.name), tables, told)
        _add_shares(plan, attacked, answers, part, plan.axes, tables, told)
    tables.rows += _moved_rows(told, Place(answers.folder(), plan.dataset, OUT))
    return told


def _add_part(plan: Plan, evidence: Evidence, part: Part, place: Place, tables: Tables, told: Told) -> None:
    """Add all measures of a part along all axes."""
    for axis in plan.axes:
        setting = plan.setting(part, axis)
        tables.note(left_out(setting.counts, axis, part, plan.targets))
        found = measure_part(evidence, setting)
        for measured in found.measures:
            _add(tables.rows, measured, place, told)
        for measured in found.by_class:
            _add(tables.by_class, measured, place, Told())
        for name, values in found.differences.items():
            in_means = setting.counts.images[setting.counts.in_means()[0]].sum()
            size = int(in_means) if name == ODDS else plan.size(part.name, axis.name)
            tables.rows.append(place.row(axis.name, name, spread_interval(values), size))
            told.add(axis.name, name, values, tables.rows[-1])


def _add_shares(
    plan: Plan,
    outcomes: Mapping[str, np.ndarray],
    answers: Answers,
    part: Part,
    axes: Sequence[Axis],
    tables: Tables,
    told: Told,
) -> None:
    """Add measures of single outcomes (N,), by metric, along some axes of a part."""
    place, least = Place(answers.folder(), plan.dataset, part.name), plan.config.min_count
    for metric, values in outcomes.items():
        for axis in axes:
            seed = derive_seed(plan.config.seed, "fairness", answers.folder(), part.name, axis.name, metric)
            measured, small = share_by_group(metric, values, axis, part, least, plan.config.replicates, seed)
            line = {"split": part.name, "axis": axis.name, "metric": metric, "needed": least}
            tables.note([{**line, "group": group, "count": count} for group, count in small.items()])
            if measured:
                _add(tables.rows, measured, place, told)


def _add(rows: list[dict[str, Any]], measured: Measured, place: Place, told: Told) -> None:
    """Add the rows of a measure to `rows`, and what is told of all its groups together to `told`."""
    groups = group_rows(measured, place)
    found, axis = aggregates(measured), axis_of(measured.groups[0])
    together = aggregate_rows(measured, found, place)
    rows += [*groups, *together]
    for each in together:
        if each["metric"] != disparity(measured.metric):
            told.add(axis, each["metric"], found[each["metric"]], each)
    if axis == EVERYONE:
        told.add(axis, measured.metric, measured.values[:, 0], groups[0])


def _moved_rows(told: Told, place: Place) -> list[dict[str, Any]]:
    """Return for each measure that is known in and out of distribution the latter less the former; images differ."""
    rows = []
    for (part, axis, name), out in told.rows.items():
        if part == OUT and (IN, axis, name) in told.rows:
            first = told.rows[IN, axis, name]
            interval = difference_interval(*((each["value"], each["low"], each["high"]) for each in (out, first)))
            rows.append(place.row(axis, moved(name), interval, out["n"]))
    return rows
