"""What the study `benchmarks.robust_training` found, seed by seed, and its verdicts on what papers claim."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

if TYPE_CHECKING:
    from benchmarks.robust_training import Run

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
        self.revisions: dict[str, set[str]] = {}
        for run in runs:
            outcome = run.outcome
            assert outcome is not None, "only finished trainings have a page"
            self.points.setdefault((run.part, run.name), {})[run.seed] = outcome["evaluations"]
            self.revisions.setdefault(run.part, set()).add(outcome["revision"][:12])

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
_GAUSSIAN = "up to +0.93 points (WRN-28-10, CIFAR-10)"
_DIFFUSION = "+6.29 points (WRN-28-10, CIFAR-10, 1M DDPM samples)"

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
        _GAUSSIAN,
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
    *[
        (
            "emoji",
            ("pad and crop", arm),
            f"{what} improve robust accuracy (emoji-people).",
            "Gowal et al. 2021",
            effect,
            lambda f, s, arm=arm: f.last("emoji", arm, s) - f.last("emoji", "pad and crop", s),
        )
        for arm, what, effect in (
            ("gaussian alpha 0.7", "Samples of a Gaussian fitted to each class (alpha 0.7)", _GAUSSIAN),
            ("diffusion alpha 0.7", "Samples of a diffusion model (alpha 0.7)", _DIFFUSION),
            ("diffusion x3 alpha 0.7", "Three diffusion samples for each training image (alpha 0.7)", _DIFFUSION),
            ("diffusion x3 alpha 0.3", "Three diffusion samples for each training image (alpha 0.3)", _DIFFUSION),
        )
    ],
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
