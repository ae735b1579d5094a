"""Measure whether two workers make synthetic shards twice as fast as one, and what a killed worker costs.

    python -m benchmarks.synthesis [--quick] [--json]

Shards of the default profile's network (untrained, which costs the same) are made on local Ray workers with one core each:
with one, with two, then by two processes without Ray that know nothing of each other (what the machine can give: they share
its memory, its caches and its power), with one again, and so on. The rate is that of a worker at work: from the end of every
worker's first shard, which includes starting Ray and reading weights, to the end of the last. Then one of two workers is
killed in the third shard. Writes `docs/results/synthesis.json` and `.md`; about ten minutes on two cores.
"""

import argparse
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ops.runtime import prepare_threads

prepare_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.stats import bootstrap  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.embedded import profile, real_shards  # noqa: E402
from benchmarks.generation_cost import save_networks, write_plan  # noqa: E402
from benchmarks.results import interval, table, write_result  # noqa: E402
from ops.files import read_json  # noqa: E402
from ops.generate.shards import ShardJob, write_synthetic  # noqa: E402
from ops.generate.synthesis import Opening  # noqa: E402
from ops.launching import Here, Job  # noqa: E402
from ops.progress import Monitor, Silent  # noqa: E402
from ops.runtime import configure_torch, usable_cores  # noqa: E402
from ops.sample.reading import PlanRows  # noqa: E402
from pipelines.compute import Ray  # noqa: E402
from pipelines.launchers import RayLauncher  # noqa: E402
from pipelines.project import STATE  # noqa: E402

COMMAND = "python -m benchmarks.synthesis"
HOME = STATE / "studies" / "synthesis"
ROUNDS, SHARDS, SIZE = 5, 24, 25
Ended = tuple[float, str]
"""Seconds since 1970, and the worker."""
KILLED = 2
"""The shard in which its worker is killed."""


@dataclass(frozen=True)
class Noting:
    """A job that notes, in a file for each shard, who began it and when it ended; it kills its process in one, once."""

    job: Job
    notes: Path
    deadly: int = -1

    def __call__(self, piece: int, device: torch.device, monitor: Monitor) -> int:
        """Do a piece of the job."""
        with (self.notes / f"{piece}.begun").open("a") as file:
            file.write(f"{os.getpid()}\n")
        if piece == self.deadly and len((self.notes / f"{piece}.begun").read_text().split()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        done = self.job(piece, device, monitor)
        (self.notes / f"{piece}.ended").write_text(f"{os.getpid()} {time.time()}")
        return done


def main() -> None:
    """Measure; print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of small shards; writes nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write nothing")
    chosen = parser.parse_args()
    configure_torch()
    rounds, shards, size = (1, 6, 10) if chosen.quick else (ROUNDS, SHARDS, SIZE)
    real = real_shards(profile(), HOME / "data")
    if not (HOME / "default").exists():
        save_networks(real, HOME)
    with TemporaryDirectory() as home:
        write_plan(real, Path(home), shards * size)
        bar = tqdm(range(rounds), unit="round")
        runs = [
            [
                *(rate_of(made(Path(home), workers, size)[0], size) for workers in (1, 2)),
                rate_of(apart(Path(home), size), size),
            ]
            for _ in bar
        ]
        begun = made(Path(home), 2, size, deadly=KILLED)[1]
        same = same_bytes(Path(home), size)
    rates = np.array(runs)
    found = {
        "one": rates[:, 0].tolist(),
        "two": rates[:, 1].tolist(),
        "apart": rates[:, 2].tolist(),
        "speedup": spread(rates[:, 1] / rates[:, 0]),
        "speedup apart": spread(rates[:, 2] / rates[:, 0]),
        "share of apart": spread(rates[:, 1] / rates[:, 2]),
        "images": shards * size,
        "shard": size,
        "rounds": rounds,
        "cores": usable_cores(),
        "begun": begun,
        "same bytes": same,
        "sampler": f"{profile().synthetic_shards.solver}, {profile().synthetic_shards.steps} steps",
    }
    if chosen.quick or chosen.json:
        print(json.dumps({"name": "synthesis", "ratio": found["speedup"][0], "unit": "images/s", **found}))
        return
    write(found)


def made(home: Path, workers: int, size: int, deadly: int = -1) -> tuple[list[Ended], list[int]]:
    """Make all shards of the plan in `home`; return when and by whom each was ended, and how often it was begun."""
    launcher = RayLauncher(Ray(workers=workers), "cpu")
    with TemporaryDirectory(dir=home) as place:
        scratch, notes = Path(place) / "scratch", Path(place) / "notes"
        scratch.mkdir()
        notes.mkdir()
        rows = PlanRows(home / "plan.parquet")
        job = ShardJob(opening(), rows, scratch, size, None)
        pieces = range(len(rows) // size)
        sum(launcher.run(Noting(job, notes, deadly), pieces, Silent()))
        begun = [len((notes / f"{piece}.begun").read_text().split()) for piece in pieces]
        return ends(notes), begun


def apart(home: Path, size: int) -> list[Ended]:
    """Make the plan's shards by two processes without Ray, every second shard each; return when and by whom each was ended."""
    with TemporaryDirectory(dir=home) as place:
        scratch, notes = Path(place) / "scratch", Path(place) / "notes"
        scratch.mkdir()
        notes.mkdir()
        context = multiprocessing.get_context("spawn")
        both = [context.Process(target=every_second, args=(home, scratch, notes, size, first)) for first in (0, 1)]
        for process in both:
            process.start()
        for process in both:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"a process without Ray ended with {process.exitcode}")
        return ends(notes)


def every_second(home: Path, scratch: Path, notes: Path, size: int, first: int) -> None:
    """Make every second shard of the plan in this process, from the shard `first` on."""
    configure_torch()
    rows = PlanRows(home / "plan.parquet")
    job = Noting(ShardJob(opening(), rows, scratch, size, None), notes)
    sum(Here(torch.device("cpu")).run(job, range(first, len(rows) // size, 2), Silent()))


def ends(notes: Path) -> list[Ended]:
    """Return when each shard was ended and by whom, in that order."""
    return sorted((float(when), who) for who, when in (path.read_text().split() for path in notes.glob("*.ended")))


def rate_of(ended: Sequence[Ended], size: int) -> float:
    """Return images a second, from when every worker has its weights and has finished a shard to the last one's end."""
    first = {who: place for place, (_, who) in reversed(list(enumerate(ended)))}
    start = max(first.values())
    return size * (len(ended) - 1 - start) / (ended[-1][0] - ended[start][0])


def same_bytes(home: Path, size: int) -> bool:
    """Return whether two workers, one of which dies, write the shards that this process writes."""
    dataset = read_json(home / "dataset.json")
    written = []
    for launcher in (Here(torch.device("cpu")), RayLauncher(Ray(workers=2), "cpu")):
        with TemporaryDirectory(dir=home) as place:
            out, scratch = Path(place) / "out", Path(place) / "scratch"
            out.mkdir()
            scratch.mkdir()
            rows = PlanRows(home / "plan.parquet")[: 3 * size]
            write_synthetic(opening(), rows, dataset, out, scratch, size, launcher, Silent())
            written.append([path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()])
    return written[0] == written[1]


def opening() -> Opening:
    """Return what opens the default profile's network."""
    return Opening(profile().synthetic_shards, HOME / "default", None)


def spread(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median of `values` (N,) with its 95 % bootstrap interval; the value thrice where there is one."""
    if len(values) < 2:
        return (float(values[0]),) * 3
    ends = bootstrap((values,), np.median, rng=np.random.default_rng(0), method="percentile").confidence_interval
    return float(np.median(values)), float(ends.low), float(ends.high)


def write(found: dict[str, Any]) -> None:
    """Write page and record."""
    again = [(piece, count) for piece, count in enumerate(found["begun"]) if count > 1]
    lines = [
        ["one worker", f"{np.median(found['one']):.1f}", "1"],
        ["two workers", f"{np.median(found['two']):.1f}", interval(*found["speedup"])],
        ["two processes without Ray", f"{np.median(found['apart']):.1f}", interval(*found["speedup apart"])],
    ]
    page = f"""# Shards of synthetic images on several workers

{found["images"]} images in shards of {found["shard"]}, {found["sampler"]}, on local Ray workers with one core each
({found["cores"]} cores in all); {found["rounds"]} rounds in turns.

{table(["", "images/s (median)", "times one worker, 95 % interval over rounds"], lines)}

Two workers reach {interval(*found["share of apart"])} times the rate of two processes without Ray, which is what this machine
can give: they share its memory and its caches. On two machines nothing is shared but the file system.

**A killed worker.** One of two workers was killed (SIGKILL) in shard {KILLED} of {len(found["begun"])}. Shards that were begun
more than once: {", ".join(f"{piece} ({count} times)" for piece, count in again) or "none"}; all others once.

**Bytes.** One process without Ray and two workers wrote {"the same" if found["same bytes"] else "DIFFERENT"} files.
"""
    write_result("synthesis", COMMAND, "default", [], [], page, measured=found)
    print(page)


if __name__ == "__main__":
    main()
