"""What benchmarks of single layers share: maps, turns, and a table of all layers or one JSON object with their ratio."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from benchmarks.results import table
from ops.runtime import configure_torch

WARM_UP = 2
"""Rounds that do not count."""


def random_maps(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Return normal numbers of seed 0 in these `shapes` (N, C, H, W), channels_last."""
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=rng).contiguous(memory_format=torch.channels_last) for shape in shapes]


def median_milliseconds(
    sides: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = WARM_UP
) -> dict[str, float]:
    """Return what each side takes in the median, where they take turns; `warm_up` rounds before do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        for name, run in sides.items():
            begun = time.perf_counter()
            run()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) * 1000 for name, taken in seconds.items()}


def compare_layers(
    name: str,
    described: str | None,
    layers: Iterable[tuple[int, ...]],
    measure: Callable[..., dict[str, Any]],
    sides: tuple[str, str],
    rounds: tuple[int, int],
) -> None:
    """Parse the command line, `measure` all `layers` in so many `rounds`, or the fewer of --quick, and print.

    `measure` returns a row with the milliseconds of both `sides`, ours and the baseline, as `"<side>, ms"`; a row that says
    `used: False` does not count for the ratio.
    """
    usual, quick = rounds
    parser = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help=f"{quick} rounds instead of {usual}")
    arguments = parser.parse_args()
    configure_torch()
    taken = quick if arguments.quick else usual
    found = [measure(*layer, taken) for layer in layers]
    if not arguments.json:
        print(table(list(found[0]), [list(row.values()) for row in found]))
        return
    ours, baseline = (sum(row[f"{side}, ms"] for row in found if row.get("used", True)) for side in sides)
    summary = {"name": name, "ratio": round(baseline / ours, 2), "ours": ours, "baseline": baseline}
    print(json.dumps({**summary, "unit": "ms", "n": taken, "layers": found}))
