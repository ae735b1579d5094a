"""How fast is a step of TRADES-10? The engine against the textbook loop in PyTorch.

    python -m benchmarks.adversarial_training --json [--quick] [--model preact-18]
    python -m benchmarks.adversarial_training            # every model; writes docs/results/adversarial_training.*

Both sides take optimizer steps of one network from the same weights on the same batches, attack starts and targets, and
must reach the same loss. Each side is a process of its own, so that neither inherits the other's settings of threads or
memory; they take turns, and ratios are of medians. Times are of the step alone; what making its batch costs is
measured apart. The baseline is `benchmarks.textbook`.
"""

import argparse
import json
import multiprocessing
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.machine import forward_flops, matmul_peak  # noqa: E402
from benchmarks.results import HOLDS, table, write_result  # noqa: E402
from benchmarks.textbook import textbook  # noqa: E402
from ops.data.loading import ImageSet  # noqa: E402
from ops.models.build import build_classifier  # noqa: E402
from ops.models.config import Architecture  # noqa: E402
from ops.runtime import configure_torch  # noqa: E402
from ops.train.augmentation.config import Augmentation  # noqa: E402
from ops.train.engine import Engine  # noqa: E402
from ops.train.mixing import Batches  # noqa: E402
from ops.train.recipe import Averaging, InnerAttack, Mix, Recipe, Schedule  # noqa: E402
from ops.train.workers import Workers  # noqa: E402

COMMAND = "python -m benchmarks.adversarial_training"
CLASSES, SIDE, IMAGES = 10, 32, 2048
GOAL = 2.5
TOLERANCE = 1e-3
"""Largest relative difference of the two losses in any step; sign steps amplify the rounding of different kernels."""
PASSES = {"ours": (6, 2), "baseline": (7, 3)}
"""Passes as long as a forward pass: of the loss, and of an attack step; 26 and 37 for TRADES-10."""
MODELS = {
    "small": Architecture(widths=[32, 64, 128], blocks=[1, 1, 1], stem_stride=2),
    "preact-18-quarter": Architecture(widths=[16, 32, 64, 128], blocks=[2, 2, 2, 2], stem_stride=1),
    "preact-18": Architecture(widths=[64, 128, 256, 512], blocks=[2, 2, 2, 2], stem_stride=1),
    "wrn-28-10": Architecture(family="wide_resnet", depth=28, width=10),
}
ROUNDS = {"small": 15, "preact-18-quarter": 9, "preact-18": 5, "wrn-28-10": 1}
STEPS = {"small": 10, "preact-18-quarter": 10, "preact-18": 10, "wrn-28-10": 1}
"""Of the attack; one is enough for the memory of a step, which is what is asked of the largest network."""
QUICK_ROUNDS = 5
ALONE = ("wrn-28-10",)  # too large for both sides at once: one after the other, without a warm-up


def main() -> None:
    """Measure; print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and write nothing")
    parser.add_argument("--quick", action="store_true", help=f"the small network in {QUICK_ROUNDS} rounds")
    parser.add_argument("--model", choices=list(MODELS), help="one network (default with --json: small)")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--side", choices=list(PASSES), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        return work(chosen.side, chosen.model, chosen.batch)
    torch.set_num_threads(1)  # a second thread of this process would wait actively and take a core from both sides
    if chosen.json or chosen.quick or chosen.model:
        name = chosen.model or "small"
        found = measure(name, chosen.batch, QUICK_ROUNDS if chosen.quick else ROUNDS[name])
        print(json.dumps(found) if chosen.json else sentence(name, found))
        return
    write({name: measure(name, chosen.batch, ROUNDS[name]) for name in MODELS})


def make_engine(name: str, batch: int) -> Engine:
    """Return the engine at its start: random images, a network whose last layer is not zero, TRADES-10."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    labels = draws.integers(0, CLASSES, IMAGES)
    data = ImageSet(images, labels, pd.DataFrame(index=range(IMAGES)), tuple(map(str, range(CLASSES))))
    recipe = Recipe(
        architecture=MODELS[name],
        augmentation=Augmentation(crop=4, flip=True),
        attack=InnerAttack(steps=STEPS[name]),
        averaging=Averaging(method="ema", decay=0.995),
        schedule=Schedule(epochs=100, batch=batch, lr=0.01, warmup=0, shape="constant"),
    )
    model = build_classifier(recipe.architecture, CLASSES, [0.5] * 3, [0.25] * 3, 0)
    # the last layer starts at zero, and then the first attack has no gradient to follow
    nn.init.normal_(model.head.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    batches = Batches(data, None, Mix(), batch, 0)
    return Engine(recipe, name, model, batches, 0, torch.device("cpu"), Workers())


def work(side: str, name: str, batch: int) -> None:
    """Take a step for every line on standard input and print a JSON line about it."""
    configure_torch()
    engine = make_engine(name, batch)
    run = textbook(engine) if side == "baseline" else lambda number: engine.step(number)[0]
    make_batch = engine.batch
    for number, _ in enumerate(sys.stdin):
        begun = time.perf_counter()
        made = make_batch(number)
        data = time.perf_counter() - begun
        engine.batch = lambda step, made=made: made  # type: ignore[method-assign, misc]
        begun = time.perf_counter()
        loss = run(number)
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": seconds, "data": data, "loss": loss, "memory": peak}), flush=True)


def measure(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Return medians of both sides over rounds in which they take turns; raises RuntimeError if their losses differ."""
    peaks, found = [peak_of_a_process()], (alone if name in ALONE else in_turns)(name, batch, rounds)
    peaks.append(peak_of_a_process())
    losses = {side: [line["loss"] for line in lines] for side, lines in found.items()}
    apart = max(abs(a - b) / abs(b) for a, b in zip(losses["ours"], losses["baseline"], strict=True))
    if not apart <= TOLERANCE:
        raise RuntimeError(f"the losses of the two sides differ by {apart:.1e}: {losses}")
    timed = {side: lines[-rounds:] for side, lines in found.items()}
    seconds = {side: statistics.median(line["seconds"] for line in lines) for side, lines in timed.items()}
    pairs = zip(timed["baseline"], timed["ours"], strict=True)
    ratios = [theirs["seconds"] / mine["seconds"] for theirs, mine in pairs]
    data = statistics.median(line["data"] for line in timed["ours"])
    flops = forward_flops(MODELS[name], CLASSES, SIDE) * batch / 1e9
    speed = {s: round((loss + step * STEPS[name]) * flops / seconds[s], 1) for s, (loss, step) in PASSES.items()}
    return {
        "name": "adversarial_training",
        "ratio": round(seconds["baseline"] / seconds["ours"], 2),
        "ours": round(batch / seconds["ours"], 2),
        "baseline": round(batch / seconds["baseline"], 2),
        "unit": "images/s",
        "n": rounds,
        "model": name,
        "batch": batch,
        "ratio of a round": [round(min(ratios), 2), round(max(ratios), 2)],
        "loss difference": apart,
        "data share": round(data / (data + seconds["ours"]), 4),
        "matmul GFLOP/s": round(max(peaks), 1),
        "attack steps": STEPS[name],
        "GFLOP/s": speed,
        "share of peak": {side: round(value / max(peaks), 3) for side, value in speed.items()},
        "peak memory GiB": {side: round(lines[-1]["memory"], 2) for side, lines in found.items()},
    }


def peak_of_a_process() -> float:
    """Return the matmul peak in GFLOP/s, measured in a process that ends, because its threads would wait actively."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(matmul_peak).result()


def in_turns(name: str, batch: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return what the sides print: a warm-up step and one in each round."""
    with worker("ours", name, batch) as ours, worker("baseline", name, batch) as baseline:
        steps = [(ours(), baseline()) for _ in range(rounds + 1)]
    return {"ours": [mine for mine, _ in steps], "baseline": [theirs for _, theirs in steps]}


def alone(name: str, batch: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return what the sides print when only one of them is in memory."""
    found = {}
    for side in PASSES:
        with worker(side, name, batch) as step:
            found[side] = [step() for _ in range(rounds)]
    return found


@contextmanager
def worker(side: str, name: str, batch: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Give a function that lets a fresh process take its next step."""
    command = [sys.executable, "-m", "benchmarks.adversarial_training", "--side", side, "--model", name]
    command += ["--batch", str(batch)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin

        def step() -> dict[str, float]:
            process.send_signal(signal.SIGCONT)
            sink.write("\n")
            sink.flush()
            line = source.readline()
            process.send_signal(signal.SIGSTOP)  # threads that wait actively would take the cores from the other side
            if not line:
                raise RuntimeError(f"the process of {side} ended early")
            return dict(json.loads(line))

        try:
            yield step
        finally:
            process.kill()


def sentence(name: str, found: dict[str, Any]) -> str:
    """Return the result for people."""
    (low, high), share, memory = found["ratio of a round"], found["share of peak"], found["peak memory GiB"]
    return (
        f"{name}: {found['ours']:.1f} images/s against {found['baseline']:.1f}, {found['ratio']:.2f}x (rounds {low:.2f} to "
        f"{high:.2f}); data {found['data share']:.1%} of a step; share of the matmul peak {share['ours']:.0%} against "
        f"{share['baseline']:.0%}; peak memory {memory['ours']} against {memory['baseline']} GiB"
    )


def write(found: dict[str, dict[str, Any]]) -> None:
    """Write docs/results/adversarial_training.json and its page."""
    rows, lines = [], []
    verdicts: list[dict[str, Any]] = []
    for name, result in found.items():
        low, high = result["ratio of a round"]
        rows.append(
            {"model": name, "dataset": "random pixels", "split": "train", "group": "all", "metric": "speed ratio"}
            | {"value": result["ratio"], "low": low, "high": high, "n": result["n"], "seed": 0}
        )
        enough = result["n"] >= QUICK_ROUNDS
        verdicts.append(
            {"claim": f"{name}: at least {GOAL}x as fast as the textbook loop", "source": "design goal"}
            | {"paper_effect": f"{GOAL}x", "effect": result["ratio"], "low": low, "high": high, "seeds": 1}
            | {"holds": (True if low >= GOAL else False if high < GOAL else None) if enough else None}
        )
        share, memory = result["share of peak"], result["peak memory GiB"]
        cells = [name, result["baseline"], result["ours"], f"{result['ratio']} ({low} to {high})", result["n"]]
        cells += [f"{share['baseline']:.0%}, {share['ours']:.0%}", f"{memory['baseline']}, {memory['ours']}"]
        cells += [f"{result['data share']:.1%}", f"{result['loss difference']:.0e}"]
        lines.append(cells)
    header = ["network", "textbook, images/s", "engine, images/s", "ratio (of single rounds)", "rounds"]
    header += ["share of the matmul peak, textbook, engine", "peak memory in GiB, textbook, engine"]
    header += ["data and augmentation", "largest relative difference of losses"]
    judged = [f"- {v['claim']}: {HOLDS[v['holds']]} ({v['effect']}x)." for v in verdicts if v["holds"] is not None]
    page = PAGE + table(header, lines) + "\n\n" + "\n".join(judged)
    write_result("adversarial_training", COMMAND, "none", rows, verdicts, page, found=found)


PAGE = """# Speed of adversarial training

A step of TRADES-10 (of the largest network, whose memory is the question, TRADES-1) on batches of 32x32 images, float32,
in the engine and in the textbook loop of `benchmarks/textbook.py`: same weights, batches, attack starts and
losses, each side in a process of its own, in turns (the other one is stopped), with threads that wait actively. The
share of the peak counts the passes that the algorithm needs (26 in the engine, 37 in the textbook) with direct
convolutions, over a product of 2048x2048 matrices measured in the same run; Winograd's algorithm, which the engine uses
for wide layers, multiplies a quarter as often. Networks with fewer than five rounds get no verdict.

What limits it: 37 passes for 26 are a ratio of 1.4 before any operation is faster. Below 64 channels Winograd's algorithm
does not pay (`python -m benchmarks.convolution`), and strided convolutions are always direct; so narrow networks gain least.

"""


if __name__ == "__main__":
    main()
