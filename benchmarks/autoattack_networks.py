"""How much faster are the attacks on networks of the literature's size? Part of `benchmarks.autoattack`.

What attacks cost depends on the network's shape, not on its weights, as long as no image falls. So networks are as they
are initialised, on random pixels, labelled with what the network says; images are those that are farthest from a boundary,
in a ball too small for any to fall in: both sides must spend the whole budget on all of them. Attacks run with two small
numbers of steps; the difference gives the seconds of a step, by which they are scaled to the published budgets. What does
not grow with the steps (the reference's checks of the network, for one) counts once. Here Square's squares shrink as over
the whole budget, since small ones cost less (not in the reference). The sides take turns within one process, with the same
threads.

What bfloat16 would bring is measured too, on single passes: its logits have 8 bits, too few for the comparisons by which
Square advances, so that only APGD and FAB could use it, and what they find would have to be asked again in float32.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.adversarial_training import CLASSES, MODELS, SIDE
from benchmarks.autoattack_attacks import timed
from benchmarks.autoattack_sides import HOME, SIDES, contiguous
from benchmarks.machine import convolution_peak, forward_flops, machine, matmul_peak, saved_flops
from ops.attack.attacks import Attack, published
from ops.attack.guard import numbers_only
from ops.attack.square import square
from ops.attack.threat import Threat
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.models.build import build_classifier
from ops.models.frozen import frozen_parameters
from pipelines.resources import git_commit

BALL = Threat(norm="linf", eps=1e-5)
CHOICE = 4
"""Images from which each one is chosen."""
PASSES = {"apgd-ce": 2, "apgd-t": 2, "fab-t": 3, "square": 1}
"""Of one step, forward or backward; a gradient of the images alone takes as many operations as a forward pass."""
STEPS = {"apgd-ce": (3, 9), "apgd-t": (3, 9), "fab-t": (3, 9), "square": (12, 36)}
LONGER = {"small": 8, "preact-18-quarter": 4, "preact-18": 1, "wrn-28-10": 1}
"""How many times as many steps of what is so quick that a difference of few would be mostly noise."""
IMAGES = {"small": 128, "preact-18-quarter": 128, "preact-18": 64, "wrn-28-10": 32}
ROUNDS = {"small": 5, "preact-18-quarter": 3, "preact-18": 3, "wrn-28-10": 2}


def kept() -> dict[str, dict[str, Any]]:
    """Return what is measured, by processor and network."""
    found: dict[str, dict[str, Any]] = {}
    for name in IMAGES:
        path = HOME / "networks" / f"{name}.json"
        if path.exists():
            outcome = read_json(path)
            found.setdefault(outcome["processor"], {})[name] = outcome
    return found


def measure_all() -> None:
    """Measure all networks, and keep what is found."""
    for name in IMAGES:
        path = HOME / "networks" / f"{name}.json"
        write_json(path, {**measure(name), "revision": git_commit()})
        print(f"{name}: done", flush=True)


def bfloat16_gain(model: nn.Module, x: torch.Tensor, times: int = 5) -> dict[str, float]:
    """Return how many times faster a pass is in bfloat16 than here in float32: forward, and forward and backward."""

    def forward() -> None:
        with torch.no_grad():
            model(x)

    def both() -> None:
        wanted = x.detach().requires_grad_(True)
        torch.autograd.grad(model(wanted).float().sum(), wanted)

    gains = {}
    for name, run in (("forward", forward), ("both", both)):
        best = []
        for lower in (False, True):
            seconds = []
            with frozen_parameters(model), torch.autocast("cpu", torch.bfloat16, enabled=lower):
                for _ in range(times + 1):
                    begun = time.perf_counter()
                    run()
                    seconds.append(time.perf_counter() - begun)
            best.append(min(seconds))
        gains[name] = best[0] / best[1]
    return gains


def scaled(steps: Sequence[int], taken: Sequence[float], wanted: int) -> float:
    """Return the seconds of `wanted` steps, given those of two smaller numbers of them, on the line through both."""
    a_step = (taken[1] - taken[0]) / (steps[1] - steps[0])
    return taken[0] + a_step * (wanted - steps[0])


def budget(attack: Attack) -> int:
    """Return the steps of an attack towards all its targets."""
    return attack.steps * (attack.targets or 1)


def paced(model: nn.Module, x: torch.Tensor, y: torch.Tensor, queries: int, budget: int) -> tuple[float, list[bool]]:
    """Return the seconds of Square with few `queries` spread over its `budget`, and which images (N,) survive."""
    begun, seeds = time.perf_counter(), torch.arange(len(x))
    with frozen_parameters(model), numbers_only(model):
        images = x.contiguous(memory_format=torch.channels_last)
        found = square(model, images, y, BALL, queries=queries, pace=budget / queries, example_seeds=seeds)
    seconds = time.perf_counter() - begun
    with torch.no_grad():
        return seconds, (model(found).argmax(dim=1) == y).tolist()


def measure(name: str) -> dict[str, Any]:
    """Return seconds of both sides for each attack on one network, for one image and the published budget."""
    images, attacks = IMAGES[name], published("standard", BALL.norm)
    draws = torch.Generator().manual_seed(0)
    model = build_classifier(MODELS[name], CLASSES, [0.5] * 3, [0.25] * 3, 0).eval()
    nn.init.normal_(model.head.weight, std=0.05, generator=draws)  # it starts at zero, where nothing has a gradient
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = contiguous(model)
    x = torch.rand(CHOICE * images, 3, SIDE, SIDE, generator=draws)
    with torch.no_grad():
        logits = torch.cat([model(part.contiguous(memory_format=torch.channels_last)) for part in x.split(images)])
    first, second = logits.topk(2, dim=1).values.T
    chosen = (first - second).argsort(descending=True)[:images]
    x, y = x[chosen], logits[chosen].argmax(dim=1)
    seconds: dict[str, dict[str, list[float]]] = {attack.name: {side: [] for side in SIDES} for attack in attacks}
    chosen_steps = {attack: [LONGER[name] * each for each in steps] for attack, steps in STEPS.items()}
    warm_up = int(ROUNDS[name] > 1)
    for number in range(ROUNDS[name] + warm_up):
        for attack in attacks:
            for side in SIDES:
                taken = []
                for steps in chosen_steps[attack.name]:
                    short = attack.model_copy(update={"steps": steps, "targets": 1})
                    if side == "ours" and attack.name == "square":
                        took, survived = paced(model, x, y, steps, attack.steps)
                    else:
                        asked = {"reference": plain, "ours": model}[side]
                        took, survived, _ = timed(side, asked, x, y, short, BALL, images)
                    if not all(survived):
                        raise AmalgamError(f"{name} has images on its boundary", "choose a smaller ball")
                    taken.append(took)
                if number >= warm_up:
                    seconds[attack.name][side].append(scaled(chosen_steps[attack.name], taken, budget(attack)) / images)
    medians = {a: {side: statistics.median(each) for side, each in both.items()} for a, both in seconds.items()}
    bfloat16 = bfloat16_gain(model, x.contiguous(memory_format=torch.channels_last))
    whole = {side: [sum(each) for each in zip(*(s[side] for s in seconds.values()), strict=True)] for side in SIDES}
    ratios = [a / b for a, b in zip(whole["reference"], whole["ours"], strict=True)]
    flops = forward_flops(MODELS[name], CLASSES, SIDE)
    return {
        "images": images,
        "rounds": ROUNDS[name],
        "longer": LONGER[name],
        "megaflops": flops / 1e6,
        "fewest megaflops": (flops - saved_flops(model, x.contiguous(memory_format=torch.channels_last))) / 1e6,
        **machine(),
        "matmul GFLOP/s": matmul_peak(),
        "convolution GFLOP/s": convolution_peak(),
        "passes": sum(PASSES[attack.name] * budget(attack) for attack in attacks),
        "bfloat16 gain": bfloat16,
        "seconds": medians,
        "whole": {side: statistics.median(whole[side]) for side in SIDES},
        "ratio": statistics.median(ratios),
        "ratio of a round": [min(ratios), max(ratios)],
    }
