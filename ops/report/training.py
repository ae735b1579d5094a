"""Training runs side by side: robust overfitting, augmentation, weight averaging and the share of real images.

Robust overfitting is the best robust accuracy along training minus the last (Rice et al. 2020; Rebuffi et al. 2021,
sections 3 and 4). All numbers come from the evaluations that training made itself, under the threat of each recipe.
Best is the best of those few on validation images, on which it leans upwards and best - last is never negative; where a
recipe's reviews include the test split, best is still chosen on validation images and the figures of test images lean
nowhere: pictures and table then show those.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import t as student

from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval, wilson
from ops.evaluate.measurements import row, write_measurements
from ops.files import replacing
from ops.progress import Monitor
from ops.report.config import TrainingStudyConfig
from ops.report.curves import draw_alpha, draw_augmentation, draw_overfitting
from ops.report.history import REMEDY, Run, augmentation_of, read_run, short_names
from ops.summary import Summary
from ops.train.recipe import Recipe

CURVES_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("weights", pa.string()),
        ("split", pa.string()),
        ("epoch", pa.float64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
"""Robust and clean accuracy of averaged and live weights; loss and lr (of the live weights, on the training split)."""
BEST, LAST = "best robust accuracy", "last robust accuracy"
OVERFITTING = "robust overfitting (best - last)"
GAP = "train minus held-out robust accuracy"
WEIGHTS = ("averaged", "live")
JUDGED = ("validation", "test")


def compare_training(
    models: Mapping[str, Path],
    out: Path,
    monitor: Monitor,
    config: TrainingStudyConfig = TrainingStudyConfig(),  # noqa: B008 (frozen)
) -> Summary:
    """Compare the trainings in `models`, by name (`classifier/real/seed-0`).

    Writes `curves.parquet`, `measurements.parquet` and the pictures `overfitting`, `augmentation` and, where recipes
    differ in their share of real images, `alpha`. Measurements of one seed carry the Wilson interval of the accuracy, or
    Newcombe's of the difference between training and held-out images, over new images; best - last, two numbers on
    the same images, has none and is left out. Means over at least two seeds (`seed` -1, `n` summed) carry Student's t
    interval over seeds.

    Raises AmalgamError if a history or a card is missing or of another form, if no validation images were evaluated, or
    if the seeds of a recipe were not trained and evaluated alike.
    """
    runs = []
    for done, (name, folder) in enumerate(models.items(), start=1):
        runs.append(read_run(name, folder))
        monitor.progress(done, len(models), "model")
    runs = _chosen(runs, config.recipes)
    _check_seeds(runs)
    with replacing(out / "curves.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(curve_rows(runs), CURVES_SCHEMA), temporary, compression="zstd")
    figures = pd.DataFrame([line for run in runs for line in run_figures(run)])
    rows = measurement_rows(figures)
    write_measurements(out / "measurements.parquet", rows)
    names = short_names([run.model for run in runs])
    recipes = {names[run.model]: run.recipe for run in runs}
    split = "test" if all(run.points("averaged", "test") for run in runs) else "validation"
    shown = figures[figures["split"] == split].assign(model=lambda frame: frame["model"].map(names))
    curves = pd.DataFrame(curve_rows(runs)).assign(model=lambda frame: frame["model"].map(names))
    axis = axis_label([run.recipe for run in runs], split)
    draw_overfitting(curves, split, axis, out / "pictures" / "overfitting.png")
    labels = {name: f"{name}\n{augmentation_of(recipe)}" for name, recipe in recipes.items()}
    draw_augmentation(shown, (BEST, LAST), labels, axis, out / "pictures" / "augmentation.png")
    if len({recipe.mix.real_fraction for recipe in recipes.values()}) > 1:
        last = [
            {**r, "model": names[r["model"]]} for r in rows if (r["metric"], r["split"]) == (f"{LAST}, averaged", split)
        ]
        fractions = {name: recipe.mix.real_fraction for name, recipe in recipes.items()}
        draw_alpha(final_intervals(last), fractions, families(recipes), axis, out / "pictures" / "alpha.png")
    return _summary(shown, recipes, split)


def _chosen(runs: list[Run], recipes: Sequence[str]) -> list[Run]:
    """Return the runs of `recipes`, all of them where none is named."""
    names = short_names([run.model for run in runs])
    known = {name for pair in names.items() for name in pair}
    unknown = [name for name in recipes if name not in known]
    if unknown or not runs:
        raise AmalgamError(
            f"no training of the recipe {unknown[0]!r}" if unknown else "there are no trainings to compare",
            f"training_study.recipes: some of {', '.join(names.values())}" if names else "add a recipe to `classifier`",
        )
    return [run for run in runs if not recipes or {run.model, names[run.model]} & set(recipes)]


def _check_seeds(runs: Sequence[Run]) -> None:
    """Raise AmalgamError where two seeds of a recipe differ in more than the seed."""
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.model, run)
        mine, theirs = ([(e.step, e.weights, e.split) for e in each.history.evaluations] for each in (run, other))
        if run.recipe != other.recipe or mine != theirs:
            raise AmalgamError(f"the seeds {other.seed} and {run.seed} of {run.model} were trained differently", REMEDY)


def curve_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of `curves.parquet`."""
    rows = []
    for run in runs:
        name = {"model": run.model, "seed": run.seed}
        for e in run.history.evaluations:
            where = {**name, "weights": e.weights, "split": e.split, "epoch": e.epoch}
            rows += [{**where, "metric": "robust accuracy", "value": e.robust}]
            rows += [{**where, "metric": "clean accuracy", "value": e.clean}]
        for s in run.history.steps:
            where = {**name, "weights": "live", "split": "train", "epoch": s.epoch}
            rows += [{**where, "metric": "loss", "value": s.loss}, {**where, "metric": "lr", "value": s.lr}]
    return rows


def run_figures(run: Run) -> list[dict[str, Any]]:
    """Return best, last, best - last and train - held-out of one training, by weights and split.

    Where weights or splits were not evaluated, their figures are missing. `low` and `high` are None where one
    training does not say how sure its figure is.
    """
    found: list[dict[str, Any]] = []

    def add(metric: str, weights: str, split: str, interval: tuple[float, float | None, float | None], n: int) -> None:
        value, low, high = interval
        name = {"model": run.model, "seed": run.seed, "weights": weights, "split": split, "metric": metric}
        found.append({**name, "value": value, "low": low, "high": high, "n": n})

    for weights in WEIGHTS:
        choice, train = run.points(weights, "validation"), run.points(weights, "train")
        for split in JUDGED:
            points = run.points(weights, split)
            if not choice or not points:
                continue
            chosen = max(choice, key=lambda e: e.robust).step
            best, last = next((e for e in points if e.step == chosen), points[-1]), points[-1]
            for metric, e in ((BEST, best), (LAST, last)):
                add(metric, weights, split, wilson(round(e.robust * e.n), e.n), e.n)
            add(OVERFITTING, weights, split, (best.robust - last.robust, None, None), last.n)
            if train and train[-1].step == last.step:
                gap = newcombe((train[-1].robust, train[-1].n), (last.robust, last.n))
                add(GAP, weights, split, gap, train[-1].n + last.n)
    return found


def newcombe(one: tuple[float, int], other: tuple[float, int]) -> Interval:
    """Return the difference of two shares of independent samples with its 95 % score interval (Newcombe 1998, no. 10).

    `one` and `other` are share and count.
    """
    (p, l1, u1), (q, l2, u2) = (wilson(round(share * n), n) for share, n in (one, other))
    low, high = np.hypot(p - l1, u2 - q), np.hypot(u1 - p, q - l2)
    return p - q, float(p - q - low), float(p - q + high)


def student_interval(values: np.ndarray) -> Interval:
    """Return the mean of at least two values (one for each seed) with Student's 95 % interval."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    width = float(student.ppf(0.975, len(values) - 1)) * error
    return mean, mean - width, mean + width


def measurement_rows(figures: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the measurement rows: of each seed where there is an interval, and of the mean over at least two seeds."""
    rows = []
    for (model, weights, split, metric), part in figures.groupby(["model", "weights", "split", "metric"], sort=False):
        name = f"{metric}, {weights}"
        for line in part[part["low"].notna()].to_dict("records"):
            interval = (line["value"], line["low"], line["high"])
            rows.append(row(f"{model}/seed-{line['seed']}", "training", split, "all", name, interval, line["n"]))
        if len(part) > 1:
            mean = student_interval(part["value"].to_numpy(np.float64))
            rows.append({**row(model, "training", split, "all", name, mean, int(part["n"].sum())), "seed": -1})
    return rows


def final_intervals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Interval]:
    """Return the interval of each model from measurement rows of one metric: over seeds where there are several."""
    ordered = sorted(rows, key=lambda r: r["seed"], reverse=True)  # the mean, seed -1, comes last and stays
    return {r["model"]: (r["value"], r["low"], r["high"]) for r in ordered}


def axis_label(recipes: Sequence[Recipe], split: str) -> str:
    """Return what robust accuracy means in the pictures: split, and the threat if it is the same for all."""
    threats = {str(recipe.threat) for recipe in recipes}
    return f"robust accuracy, {split} ({threats.pop() if len(threats) == 1 else 'threat of each recipe'})"


def families(recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Return groups of at least two recipes that differ in the share of real images only, by rising share.

    A recipe on real images alone ends the line of every source of synthetic images.
    """
    found: dict[str, list[str]] = {}
    real: dict[str, list[str]] = {}
    for name, recipe in sorted(recipes.items(), key=lambda item: item[1].mix.real_fraction):
        rest = recipe.model_dump_json(exclude={"description", "mix"})
        if recipe.mix.real_fraction == 1:
            real.setdefault(rest, []).append(name)
        else:
            source = recipe.mix.model_dump_json(exclude={"real_fraction"})
            found.setdefault(f"{rest}|{source}", []).append(name)
    lines = [[*mixed, *real.get(key.partition("|")[0], [])] for key, mixed in found.items()]
    return [line for line in lines if len(line) > 1]


def _summary(figures: pd.DataFrame, recipes: Mapping[str, Recipe], split: str) -> Summary:
    """Return one line for each recipe, seeds averaged, and the largest robust overfitting."""
    means = figures.groupby(["model", "weights", "metric"])["value"].mean()
    lines: list[dict[str, Any]] = []
    for name, recipe in recipes.items():
        mine = figures[figures["model"] == name]
        line: dict[str, Any] = {"recipe": name, "threat": str(recipe.threat), "augmentation": augmentation_of(recipe)}
        line |= {"averaging": recipe.averaging.method, "real fraction": recipe.mix.real_fraction}
        line |= {"seeds": mine["seed"].nunique()}
        for weights in WEIGHTS:
            for metric, short in (
                (BEST, "best"),
                (LAST, "last"),
                (OVERFITTING, "best - last"),
                (GAP, f"train - {split}"),
            ):
                key = (name, weights, metric)
                line[f"{short}, {weights}"] = f"{means[key]:.3f}" if key in means.index else "–"
        lines.append(line)
    overfitting = figures[(figures["metric"] == OVERFITTING) & (figures["weights"] == "averaged")]
    worst = overfitting.groupby("model")["value"].mean()
    trainings = len(overfitting)
    return Summary(
        {"recipes": len(recipes), "trainings": trainings, "largest robust overfitting": float(worst.max())},
        {"training": lines},
    )
