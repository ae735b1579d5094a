"""What benchmarks of single layers print: a table of all layers, or one JSON object with the ratio over those that count."""

import argparse
import json
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.results import table
from ops.runtime import configure_torch


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
