"""The page of `benchmarks.generation`: rows, verdicts and text from what was measured."""

from collections.abc import Mapping
from typing import Any

from benchmarks.generation_sampling import GOALS, STOCK
from benchmarks.results import HOLDS, RESULTS, table, write_result
from ops.files import read_json
from ops.runtime import usable_cores
from pipelines.resources import git_commit

COMMAND = "python -m benchmarks.generation"
PARTS = ("training", "sampling", "cost")
Part = Mapping[str, Any]


def write(measured: Mapping[str, Part]) -> None:
    """Write docs/results/generation.json and its page; parts that were not measured stay as they were.

    Raises FileNotFoundError if there is no page whose parts could stay.
    """
    kept = {} if set(measured) == set(PARTS) else read_json(RESULTS / "generation.json")
    found = {**kept.get("found", {}), **measured}
    revisions = {part: kept.get("revisions", {}).get(part, kept.get("revision")) for part in PARTS}
    revisions |= dict.fromkeys(measured, git_commit())
    training, sampling, cost = (found[part] for part in ("training", "sampling", "cost"))
    verdicts = verdicts_of(sampling, cost)
    judged = [f"- {v['claim']}: {HOLDS[v['holds']]}." for v in verdicts]
    parts = [training_text(training), sampling_text(sampling), cost_text(cost), "## Goals\n\n" + "\n".join(judged)]
    measured_at = ", ".join(f"{part} at `{revisions[part][:12]}`" for part in PARTS)
    page = "# Speed of the image generator\n\n" + "\n\n".join([*parts, f"Measured: {measured_at}."])
    rows = rows_of(training, sampling)
    write_result("generation", COMMAND, "default", rows, verdicts, page, found=found, revisions=revisions)


def rows_of(training: Part, sampling: Part) -> list[dict[str, Any]]:
    """Return the ratios as measurement rows; low and high are those of single rounds."""
    common = {"dataset": "emoji-people", "split": "train", "group": "all", "metric": "speed ratio", "seed": 0}
    rows = [
        {**common, "model": f"training against {side}", "value": ratio}
        | dict(zip(("low", "high"), training["ratios of a round"][side], strict=True))
        | {"n": training["n"]}
        for side, ratio in training["ratios"].items()
    ]
    for stock, result in sampling["against"].items():
        if result["steps"]:
            low, high = result["ratios of a round"]
            rows.append(
                {**common, "model": f"sampling in {result['steps']} steps against {stock}", "value": result["ratio"]}
                | {"low": low, "high": high, "n": sampling["rounds"]}
            )
    return rows


def verdicts_of(sampling: Part, cost: Part) -> list[dict[str, Any]]:
    """Return whether the goals are met."""
    verdicts: list[dict[str, Any]] = []
    for stock, goal in GOALS.items():
        result = sampling["against"][stock]
        low, high = result.get("ratios of a round", (0.0, 0.0))
        verdicts.append(
            {"claim": f"at least {goal:g}x as many samples per second as {stock}, at equal FD", "source": "design goal"}
            | {"paper_effect": f"{goal:g}x", "effect": result.get("ratio", 0.0), "low": low, "high": high, "seeds": 1}
            | {"holds": True if low >= goal else False if high < goal else None}
        )
    growth = cost["growth KiB an image"]
    verdicts.append(
        {"claim": "memory is flat in the number of samples", "source": "design goal", "paper_effect": "no growth"}
        | {"effect": growth, "low": growth, "high": growth, "seeds": 1, "holds": cost["flat"]}
    )
    return verdicts


def training_text(found: Part) -> str:
    """Return the section on training."""
    lines = [
        [
            side,
            rate,
            _ratio(found["ratios"].get(side), found["ratios of a round"].get(side)),
            found["ratios of core seconds"].get(side, "1"),
            f"{found['share of peak'][side]:.0%}",
            found["peak memory GiB"][side],
            found["loss difference"].get(side, "–"),
        ]
        for side, rate in found["images/s"].items()
    ]
    header = ["side", "images/s", "we are faster by (single rounds)", "the same in core seconds", "share of peak"]
    header += ["peak memory, GiB", "largest relative difference of losses"]
    kinds = sorted(found["share of time"].items(), key=lambda pair: -pair[1])
    rates = found["GFLOP/s by kind"]
    shares = [
        [kind, f"{share:.0%}", f"{rates[kind]} ({rates[kind] / found['matmul GFLOP/s']:.0%})" if kind in rates else "–"]
        for kind, share in kinds
    ]
    useful = sum(found["share of time"][kind] for kind in rates)
    return "\n\n".join(
        [
            "## Training",
            f"The default profile's network on batches of {found['batch']} images: our step (`train_steps`) against the loop "
            "of diffusers' example scripts (float32, NCHW, no compilation; images and captions go through the frozen "
            "encoders in every step), and against the same loop with latents and captions that are encoded once, as ours "
            "are. Same weights, batches, noise, times and drops, and the same loss in every step; each side in a process of "
            f"its own, in turns, {found['n']} rounds of one step, medians.",
            table(header, lines),
            "What is left of the first ratio in the second is layout, optimizer and average; the rest is what is not "
            f"encoded again. A step of the network needs {found['GFLOP of a step']} GFLOP; a product of 2048x2048 "
            f"matrices reached {found['matmul GFLOP/s']} GFLOP/s in the same run. Where the time of our step goes:",
            table(["operations", "share of the step", "GFLOP/s (share of the matmul peak)"], shares),
            f"{1 - useful:.0%} of a step multiplies nothing: it moves and normalises small tensors, or starts operations. "
            "The rest works on 8x8 and 4x4 latents with 48 to 192 channels, products that are too small to reach the peak.",
        ]
    )


def sampling_text(found: Part) -> str:
    """Return the section on sampling."""
    lines = []
    for name, line in found["samplers"].items():
        cells = [name, f"{line['images/s']:.2f}", f"{line['core hours of a million']:.1f}", f"{line['FD']:.3f}"]
        for stock in STOCK:
            further = found["against"][stock]["FD further away"]
            steps = name.removeprefix("ours, ").removesuffix(" steps")
            cells.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*further[steps]) if steps in further else "–")
        lines.append(cells)
    header = ["sampler", "images/s", "core hours of a million", "FD", *(f"FD minus that of {s}" for s in STOCK)]
    batches = ", ".join(f"{rate:.1f} in batches of {batch}" for batch, rate in found["images/s by batch"].items())
    ends = [
        f"Against {stock}: equal from {result['steps']} steps, {_ratio(result['ratio'], result['ratios of a round'])}."
        if result["steps"]
        else f"Against {stock}: no number of steps is equal."
        for stock, result in found["against"].items()
    ]
    return "\n\n".join(
        [
            "## Sampling",
            f"One network ({found['parameters']:,} parameters; v prediction, cosine schedule, {found['training steps']} steps "
            f"on the embedded images at 16x16 pixels) in the stock pipelines and in our sampler (DPM-Solver++), without "
            f"conditions. {found['n']} images of each, in {found['rounds']} rounds in which samplers take turns with batches "
            f"of {found['batch']}. FD is the Fréchet distance from {found['real images']:,} real images in "
            f"{found['space']}; {found['n']} real images are at {found['FD of real images']:.3f}. Differences have 95 % "
            "bootstrap intervals over generated images. We count as equal from the number of steps on from which no "
            "interval is above zero.",
            table(header, lines),
            " ".join(ends),
            f"Our images per second with {found['steps of these']} steps: {batches}. Batches change images by rounding only.",
        ]
    )


def cost_text(found: Part) -> str:
    """Return the section on cost."""
    peaks = found["peak memory MiB"]
    return "\n\n".join(
        [
            "## A million samples",
            f"From a plan to shards with the default profile's network ({found['sampler']}): {found['images/s']} images/s on "
            f"{usable_cores()} cores, so {found['hours of a million']} hours or {found['core hours of a million']} core hours "
            f"for a million; {found['core hours of writing a million']} core hours of these are writing (PNG, hashes, tar). "
            "The cost of one more sample does not depend on how many there are.",
            table(["samples", "peak memory, MiB"], [[f"{int(count):,}", peak] for count, peak in peaks.items()]),
            "Memory is flat: plan and manifest are streamed."
            if found["flat"]
            else f"Memory grows by {found['growth KiB an image']} KiB for each sample "
            f"({found['growth GiB of a million']} GiB for a million).",
        ]
    )


def _ratio(value: float | None, ends: tuple[float, float] | None) -> str:
    return "–" if value is None or ends is None else f"{value:.2f}x ({ends[0]:.2f} to {ends[1]:.2f})"
