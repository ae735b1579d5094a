"""The page of the study `benchmarks.robust_training`: figures, comparisons over seeds, verdicts, a picture."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from benchmarks.results import RESULTS, interval, table, verdict_lines, write_result
from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row

if TYPE_CHECKING:
    from benchmarks.robust_training import Run

COMMAND = "python -m benchmarks.robust_training"
ROBUST, CLEAN = "robust accuracy", "clean accuracy"
DATASETS = {
    "augmentation": "MNIST-5k, 500 training images, 20 % of their labels wrong",
    "generated": "MNIST-5k, 500 training images",
    "emoji": "emoji-people, the embedded dataset",
    "cifar10": "CIFAR-10, 2,000 training images",
}


class Found:
    """What all finished trainings found, by part, recipe and seed."""

    def __init__(self, runs: "Sequence[Run]") -> None:
        self.points: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
        self.recipes = {(run.part, run.name): run.recipe for run in runs}
        for run in runs:
            outcome = run.outcome
            assert outcome is not None, "only finished trainings have a page"
            self.points.setdefault((run.part, run.name), {})[run.seed] = outcome["evaluations"]

    def curve(self, part: str, name: str, seed: int, weights: str, split: str = "test") -> list[dict[str, Any]]:
        """Return the evaluations of one training in the order of epochs."""
        return [p for p in self.points[part, name][seed] if (p["weights"], p["split"]) == (weights, split)]

    def weights(self, part: str, name: str) -> list[str]:
        """Return the kinds of weights that were evaluated."""
        seed = self.seeds(part, name)[0]
        return [w for w in ("averaged", "live") if self.curve(part, name, seed, w)]

    def last(self, part: str, name: str, seed: int, weights: str = "averaged", metric: str = ROBUST) -> float:
        """Return test accuracy at the end."""
        return float(self.curve(part, name, seed, weights)[-1][metric])

    def best(self, part: str, name: str, seed: int, weights: str = "averaged") -> float:
        """Return test robust accuracy at the epoch that is best on validation images."""
        chosen = max(self.curve(part, name, seed, weights, "validation"), key=lambda p: p[ROBUST])["epoch"]
        return next(float(p[ROBUST]) for p in self.curve(part, name, seed, weights) if p["epoch"] == chosen)

    def drop(self, part: str, name: str, seed: int, weights: str) -> float:
        """Return robust overfitting: best minus last."""
        return self.best(part, name, seed, weights) - self.last(part, name, seed, weights)

    def seeds(self, part: str, *names: str) -> list[int]:
        """Return the seeds that all of `names` have."""
        sets = [set(self.points.get((part, name), {})) for name in names]
        return sorted(set.intersection(*sets)) if sets else []


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and 95 % Student-t interval of values of independent seeds (at least two)."""
    centre, spread = mean(values), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(student.ppf(0.975, len(values) - 1)) * spread
    return centre, centre - reach, centre + reach


Effect = Callable[[Found, int], float]

CLAIMS: list[tuple[str, tuple[str, ...], str, str, str, Effect]] = [
    (
        "augmentation",
        ("none",),
        "Robust accuracy of adversarial training peaks, then falls.",
        "Rice et al. 2020, Overfitting in adversarially robust deep learning",
        "best 53.49, last 45.59 (PreActResNet-18, CIFAR-10, PGD-10, published logs)",
        lambda f, s: f.drop("augmentation", "none", s, "live"),
    ),
    (
        "augmentation",
        ("none",),
        "Weight averaging alone does not stop the fall.",
        "Rebuffi et al. 2021, Data Augmentation Can Improve Robustness",
        "no figure quoted",
        lambda f, s: f.drop("augmentation", "none", s, "averaged"),
    ),
    (
        "augmentation",
        ("none", "cutmix"),
        "CutMix with weight averaging overfits less than no augmentation with weight averaging.",
        "Rebuffi et al. 2021",
        "no figure quoted",
        lambda f, s: f.drop("augmentation", "none", s, "averaged") - f.drop("augmentation", "cutmix", s, "averaged"),
    ),
    *[
        (
            part,
            ("pad and crop", "cutmix"),
            f"With weight averaging, CutMix is more robust than pad and crop ({DATASETS[part]}).",
            "Rebuffi et al. 2021",
            "+2.93 points (WRN-70-16, CIFAR-10, linf 8/255, AutoAttack)",
            lambda f, s, part=part: f.last(part, "cutmix", s) - f.last(part, "pad and crop", s),
        )
        for part in ("augmentation", "emoji", "cifar10")
    ],
    (
        "augmentation",
        ("pad and crop", "cutmix"),
        "CutMix gains more with weight averaging than without (best models).",
        "Rebuffi et al. 2021",
        "no gain without averaging, +2.93 with it",
        lambda f, s: (
            (f.best("augmentation", "cutmix", s) - f.best("augmentation", "pad and crop", s))
            - (f.best("augmentation", "cutmix", s, "live") - f.best("augmentation", "pad and crop", s, "live"))
        ),
    ),
    (
        "generated",
        ("real", "gaussian alpha 0.7"),
        "Samples of a Gaussian fitted to each class improve robust accuracy (alpha 0.7).",
        "Gowal et al. 2021, Improving Robustness using Generated Data",
        "up to +0.93 points (WRN-28-10, CIFAR-10)",
        lambda f, s: f.last("generated", "gaussian alpha 0.7", s) - f.last("generated", "real", s),
    ),
    (
        "generated",
        ("real", "gaussian alpha 0"),
        "Generated images alone (alpha 0) beat real images alone.",
        "Gowal et al. 2021",
        "claimed for 1M samples of a diffusion model; here the samples are a Gaussian's",
        lambda f, s: f.last("generated", "gaussian alpha 0", s) - f.last("generated", "real", s),
    ),
    (
        "emoji",
        ("pad and crop", "gaussian alpha 0.7"),
        "Samples of a Gaussian fitted to each class improve robust accuracy (emoji-people, alpha 0.7).",
        "Gowal et al. 2021",
        "up to +0.93 points (WRN-28-10, CIFAR-10)",
        lambda f, s: f.last("emoji", "gaussian alpha 0.7", s) - f.last("emoji", "pad and crop", s),
    ),
    (
        "emoji",
        ("pad and crop", "diffusion alpha 0.7"),
        "Samples of a diffusion model improve robust accuracy (emoji-people, alpha 0.7).",
        "Gowal et al. 2021",
        "+6.29 points (WRN-28-10, CIFAR-10, 1M DDPM samples)",
        lambda f, s: f.last("emoji", "diffusion alpha 0.7", s) - f.last("emoji", "pad and crop", s),
    ),
    (
        "emoji",
        ("gaussian alpha 0.7", "diffusion alpha 0.7"),
        "Samples of a diffusion model help more than a Gaussian's (emoji-people, alpha 0.7).",
        "Gowal et al. 2021",
        "+6.29 against +0.93 points",
        lambda f, s: f.last("emoji", "diffusion alpha 0.7", s) - f.last("emoji", "gaussian alpha 0.7", s),
    ),
]


def verdicts(found: Found) -> list[dict[str, Any]]:
    """Return a verdict for each claim of which two or more seeds are finished; one seed tells nothing about seeds."""
    made = []
    for part, names, claim, source, paper, effect in CLAIMS:
        seeds = found.seeds(part, *names)
        if len(seeds) < 2:
            continue
        value, low, high = over_seeds([effect(found, seed) for seed in seeds])
        holds = True if low > 0 else False if high < 0 else None
        record = {"claim": claim, "source": source, "paper_effect": paper, "effect": value, "low": low, "high": high}
        made.append({**record, "seeds": len(seeds), "holds": holds})
    return made


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
    _picture(found)
    write_result("robust_training", COMMAND, "study", measurement_rows(found), verdicts(found), "\n".join(lines))


def _setting(found: Found, part: str, name: str) -> str:
    recipe = found.recipes[part, name]
    schedule, attack = recipe.schedule, recipe.attack
    return (
        f"{recipe.loss}, {recipe.threat}, {attack.steps} steps of {attack.step_size:.2g} eps; {schedule.epochs:g} epochs, "
        f"batch {schedule.batch}, learning rate {schedule.lr:g} ({schedule.shape}); weight average {recipe.averaging.decay}; "
        f"{recipe.architecture.family}, widths {recipe.architecture.widths}."
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
