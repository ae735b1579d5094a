"""How fast is the image generator? Training, sampling and the cost of a million samples, against what people use.

    python -m benchmarks.generation --json [--quick] [--part training]
    python -m benchmarks.generation     # all; writes docs/results/generation.*

`benchmarks.generation_training`: our step against the loop of diffusers' example scripts, with equal losses.
`benchmarks.generation_sampling`: our sampler against the stock pipelines of diffusers, with equal distances from real
images. `benchmarks.generation_cost`: time and memory of whole shards. With --json, ratio, ours and baseline are those of
training, and the parts hold their own. About twenty minutes on two cores; the network that samples is trained once and
kept in `.amalgam/studies/generation`.
"""

import argparse
import json
import multiprocessing
from pathlib import Path
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks import generation_cost, generation_sampling, generation_training  # noqa: E402
from benchmarks.embedded import profile, real_shards  # noqa: E402
from benchmarks.generation_page import PARTS, write  # noqa: E402
from benchmarks.turns import alone  # noqa: E402
from ops.progress import Silent  # noqa: E402
from pipelines.project import STATE  # noqa: E402

HOME = STATE / "studies" / "generation"
ROUNDS, QUICK_ROUNDS = 15, 3
COUNTS, QUICK_COUNTS = (500, 2000, 8000), (100, 400)
"""Samples that are written to see what memory they need."""
COSTED, QUICK_COSTED = (128, 384), (4, 12)
"""Samples that are written to see what they cost."""


def main() -> None:
    """Measure; print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and write nothing")
    parser.add_argument("--quick", action="store_true", help="small numbers that show that it runs, and no quality")
    parser.add_argument("--part", choices=PARTS, help="only this part; the page keeps the others")
    chosen = parser.parse_args()
    multiprocessing.set_forkserver_preload(["benchmarks.generation_cost", "benchmarks.generation_sampling"])
    torch.set_num_threads(1)  # a second thread of this process would wait actively and take a core from all sides
    parts = [chosen.part] if chosen.part else PARTS
    home = HOME / "quick" if chosen.quick else HOME
    shards = alone(make_shards, home, 1000 if chosen.quick else 0)
    found = {part: measure(part, shards, home, chosen.quick) for part in parts}
    if chosen.json or chosen.quick:
        print(json.dumps({"name": "generation", **headline(found), **found}, indent=None if chosen.json else 2))
        return
    write(found)


def make_shards(home: Path, limit: int) -> Path:
    """Return the default profile's shards below `home`, or those of about `limit` images."""
    params = profile()
    raw = params.raw_images.model_copy(update={"limit": limit})
    return real_shards(params.model_copy(update={"raw_images": raw}), home / "data")


def measure(part: str, shards: Path, home: Path, quick: bool) -> dict[str, Any]:
    """Return what one part finds."""
    if part == "training":
        return generation_training.measure(shards, home, QUICK_ROUNDS if quick else ROUNDS)
    if part == "sampling":
        plan = generation_sampling.QUICK if quick else generation_sampling.Plan()
        return alone(generation_sampling.measure, shards, home, plan, Bar())
    counts, costed = (QUICK_COUNTS, QUICK_COSTED) if quick else (COUNTS, COSTED)
    return generation_cost.measure(shards, home, counts, costed)


def headline(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the figures that stand for all: those of training, or what the only part that was measured has of them."""
    first = found[next(iter(found))]
    return {key: first[key] for key in ("ratio", "ours", "baseline", "unit", "n") if key in first}


class Bar(Silent):
    """A monitor that draws bars on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = ("", 0)

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Move the bar; what has another unit or end gets a bar of its own."""
        if self._shown != (unit, total):
            self._shown = (unit, total)
            self._bar = tqdm(total=total, unit=unit, initial=done, leave=False, disable=None)
        self._bar.update(done - self._bar.n)


if __name__ == "__main__":
    main()
