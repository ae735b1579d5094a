"""How often intervals for a difference of two recipes hold the truth, by the number of seeds.

    python -m benchmarks.coverage [--simulations N]

Writes `docs/results/coverage.json` and `coverage.md`: differences d = I + S + e of images and seeds are drawn with known
variances, and the intervals of `ops.evaluate.significance` are compared with what is over images only.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks.results import interval, table, write_result
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import NO_SEED, row
from ops.evaluate.significance import mean_effect
from ops.runtime import derive_seed

COMMAND = "python -m benchmarks.coverage"
IMAGES = 300
SEEDS = (2, 3, 5, 10)
RATIOS = (0, 1, 9)
"""What seeds add to the variance of the mean, in units of what images add."""


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=4000, help="of each setting")
    count = parser.parse_args().simulations
    rows, lines = [], []
    for ratio in RATIOS:
        for seeds in SEEDS:
            both, images = simulate(ratio, seeds, count)
            cells = {"images and seeds": wilson(both, count), "images only": wilson(images, count)}
            rows += [_row(f"{name}, seeds {seeds}, ratio {ratio}", cell, count) for name, cell in cells.items()]
            lines.append([ratio, seeds, *(interval(*cell) for cell in cells.values())])
    page = "\n".join(
        [
            "# How often intervals hold the truth",
            "",
            f"{count} simulated comparisons of two recipes on {IMAGES} images in each line; the truth is known. In brackets "
            "95 % Wilson intervals of the share. 0.95 is what an interval of 95 % should reach.",
            "",
            table(
                ["variance of the mean by seeds / by images", "seeds", "over images and seeds", "over images only"],
                lines,
            ),
            "",
            "Intervals over images and seeds are those of verdicts and comparisons (`ops.evaluate.significance`). Those over "
            "images only answer another question, whether these very weights are better.",
        ]
    )
    write_result("coverage", COMMAND, "none", rows, [], page)
    print(page)


def simulate(ratio: float, seeds: int, count: int) -> tuple[int, int]:
    """Return in how many of `count` simulations the true difference, 0, is inside the interval of each kind.

    Images add 1 / IMAGES to the variance of the mean, seeds `ratio` as much; what an image does under one seed only has the
    variance of images.
    """
    rng = np.random.default_rng(derive_seed("coverage", str(ratio), seeds))
    both = images = 0
    for _ in range(count):
        of_seeds = rng.normal(0, (ratio * seeds / IMAGES) ** 0.5, seeds)
        differences = rng.normal(size=(IMAGES, 1)) + of_seeds + rng.normal(size=(IMAGES, seeds))
        for_method, for_weights = mean_effect(differences), mean_effect(differences.mean(axis=1, keepdims=True))
        both += for_method.low <= 0 <= for_method.high
        images += for_weights.low <= 0 <= for_weights.high
    return both, images


def _row(name: str, share: tuple[float, float, float], count: int) -> dict[str, Any]:
    return {**row(name, "simulation", "none", "all", "coverage of 95 % intervals", share, count), "seed": NO_SEED}


if __name__ == "__main__":
    main()
