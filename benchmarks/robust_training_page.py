"""The page of the study `benchmarks.robust_training`: figures, comparisons over seeds, verdicts, a picture."""

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.results import RESULTS, interval, table, verdict_lines, write_result
from benchmarks.robust_training_claims import CLEAN, DATASETS, ROBUST, Found, over_seeds, verdicts
from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row

if TYPE_CHECKING:
    from benchmarks.robust_training import Run

COMMAND = "python -m benchmarks.robust_training"
_SAMPLES = (
    "Diffusion samples are the shipped generator's (classes as in the data, tones equally often), as many as there are "
    "training images or three times as many (x3), the half that the default profile's filter keeps; Gaussian samples "
    "are as many as training images. How good that generator is, `docs/results/generator.md` says."
)


def measurement_rows(found: Found) -> list[dict[str, Any]]:
    """Return a row for each training, kind of weights and figure, with the Wilson interval of its test images."""
    rows = []
    for (part, name), seeds in found.points.items():
        for seed in sorted(seeds):
            for weights in found.weights(part, name):
                n = found.curve(part, name, seed, weights)[-1]["n"]
                figures = {
                    f"best {ROBUST}": found.best(part, name, seed, weights),
                    f"last {ROBUST}": found.last(part, name, seed, weights),
                    f"last {CLEAN}": found.last(part, name, seed, weights, CLEAN),
                }
                for metric, value in figures.items():
                    share = wilson(round(value * n), n)
                    model = f"{name}/seed-{seed}"
                    rows.append(row(model, DATASETS[part], "test", "all", f"{metric}, {weights} weights", share, n))
    return rows


def write_page(runs: "Sequence[Run]") -> None:
    """Write JSON, page and picture."""
    found = Found(runs)
    lines = ["# Robust training, in miniature", ""]
    lines += [
        "Every training is repeated with several seeds (initialisation, order, augmentation, attack noise; the images stay "
        "the same, so nothing here speaks of other training images). Robust accuracy is under PGD-10 from a random start, "
        "on test images; `best` is the epoch with the highest robust accuracy on validation images. Brackets are 95 % "
        "Student-t intervals over seeds; a claim holds if its interval is above 0.",
        "",
        "![curves](robust_training.png)",
        "",
        "## Claims",
        "",
        verdict_lines(verdicts(found)),
    ]
    for part, title in DATASETS.items():
        names = [name for p, name in found.points if p == part]
        if names:
            lines += ["", f"## {title}", "", _setting(found, part, names[0]), "", _table(found, part, names)]
        if names and part == "emoji":
            lines += ["", _SAMPLES]
    write_result("robust_training", COMMAND, "study", measurement_rows(found), verdicts(found), "\n".join(lines))
    _picture(found)  # last: a changed file would make the revision a dirty one


def _setting(found: Found, part: str, name: str) -> str:
    recipe = found.recipes[part, name]
    schedule, attack = recipe.schedule, recipe.attack
    return (
        f"{recipe.loss}, {recipe.threat}, {attack.steps} steps of {attack.step_size:.2g} eps; {schedule.epochs:g} epochs, "
        f"batch {schedule.batch}, learning rate {schedule.lr:g} ({schedule.shape}); weight average {recipe.averaging.decay}; "
        f"{recipe.architecture.family}, widths {recipe.architecture.widths}. Trained at revision "
        f"{', '.join(f'`{name}`' for name in sorted(found.revisions[part]))}."
    )


def _table(found: Found, part: str, names: Sequence[str]) -> str:
    header = ["recipe", "seeds", *[f"{w}: {k}" for w in ("averaged", "live") for k in ("best", "last", "best - last")]]
    lines = []
    for name in names:
        seeds = found.seeds(part, name)
        cells: list[object] = [name, len(seeds)]
        for weights in ("averaged", "live"):
            if weights not in found.weights(part, name):
                cells += ["–"] * 3
                continue
            for figure in (found.best, found.last, found.drop):
                values = [figure(part, name, seed, weights) for seed in seeds]
                cells.append(interval(*over_seeds(values)) if len(seeds) > 1 else f"{values[0]:.2f}")
        lines.append([*cells, f"{mean(found.last(part, name, seed, metric=CLEAN) for seed in seeds):.2f}"])
    return table([*header, "clean, averaged: last"], lines)


def _picture(found: Found) -> None:
    """Save robust accuracy against epoch for each part, and the alpha curve."""
    from matplotlib.figure import Figure

    parts = [part for part in DATASETS if any(p == part for p, _ in found.points)]
    rows = len(parts) // 2 + 1  # one panel more than parts
    figure = Figure(figsize=(9, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, part in zip(panels, parts, strict=False):
        for number, name in enumerate(name for p, name in found.points if p == part):
            for weights, style in (("averaged", "-"), ("live", ":")):
                if weights not in found.weights(part, name):
                    continue
                curves = [found.curve(part, name, seed, weights) for seed in found.seeds(part, name)]
                epochs = [p["epoch"] for p in curves[0]]
                values = np.array([[p[ROBUST] for p in curve] for curve in curves])
                label = name if weights == "averaged" else None
                axes.plot(epochs, values.mean(axis=0), style, color=COLOURS[number % 8], linewidth=1.4, label=label)
                if weights == "averaged" and len(curves) > 1:
                    low, high = values.min(axis=0), values.max(axis=0)
                    axes.fill_between(epochs, low, high, color=COLOURS[number % 8], alpha=0.12, linewidth=0)
        axes.set(xlabel="epoch", ylabel="robust accuracy (test)", title=DATASETS[part])
        axes.title.set_fontsize(9)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    _alpha_panel(found, panels[len(parts)])
    for axes in panels[len(parts) + 1 :]:
        axes.set_visible(False)
    panels[0].text(0.02, 0.02, "solid: averaged weights, dotted: live", transform=panels[0].transAxes, fontsize=7)
    save_figure(figure, RESULTS / "robust_training.png")


def _alpha_panel(found: Found, axes: Any) -> None:
    """Draw the last robust accuracy (averaged weights) against the share of real images, with intervals over seeds."""
    names = [name for part, name in found.points if part == "generated"]
    alphas = sorted((1.0 if name == "real" else float(name.rpartition(" ")[2]), name) for name in names)
    if not alphas:
        axes.set_visible(False)
        return
    spans = [
        over_seeds([found.last("generated", name, seed) for seed in found.seeds("generated", name)])
        for _, name in alphas
    ]
    x, middle = [alpha for alpha, _ in alphas], [value for value, _, _ in spans]
    errors = [[value - low for value, low, _ in spans], [high - value for value, _, high in spans]]
    axes.errorbar(x, middle, yerr=errors, fmt="o-", color=COLOURS[0], markersize=4, capsize=3, linewidth=1.4)
    axes.set(xlabel="alpha: share of real images in a batch", ylabel="robust accuracy (test)")
    axes.set_title("MNIST-5k, real and Gaussian samples: the alpha curve", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
