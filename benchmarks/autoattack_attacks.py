"""Each attack of AutoAttack on its own, under all norms. Part of `benchmarks.autoattack`.

The networks and photographs are those of the part `agreement`. Each attack meets all images that a network classifies
correctly, on both sides with the same budget; the ensemble's outcome of an image is the worst of the attacks of the list
`standard`. The two sides take turns, attack by attack, in one process with the same threads. A network under a threat is
kept when it is done, so that a stopped run goes on, and several processes may share the work.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn

from benchmarks.autoattack_agreement import AGREEMENT, PAIRS, SPLIT, photographs, trained_models
from benchmarks.autoattack_sides import HOME, SIDES, ask_reference, contiguous
from benchmarks.machine import machine
from ops.attack.attacks import Attack, published
from ops.attack.projections import norm_of
from ops.attack.run import run_attack, verify_adversarial
from ops.attack.threat import Norm, Threat
from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.config import HonestyConfig
from ops.evaluate.honesty import Sign, probe_model
from ops.evaluate.outcome_signs import BLACK_BOX, black_box_sign
from ops.evaluate.predicting import choose
from ops.files import read_json, write_json
from ops.models.checkpoint import load_classifier
from pipelines.project import STATE, STORE
from pipelines.resources import git_commit

IMAGES, BATCH = 200, 200
EMBEDDED = Threat(norm="linf", eps=4 / 255)
Outcome = dict[str, Any]


def attacks_in(norm: Norm) -> list[Attack]:
    """Return the attacks of `standard`, and those that only `plus` has, with one attempt."""
    return [*published("standard", norm), Attack(name="apgd-dlr", steps=100), Attack(name="fab", steps=100)]


def measure(archive: Path | None) -> None:
    """Let both sides attack every network under all its threats, and keep what they find."""
    shards = photographs(archive)
    images = open_images(shards, SPLIT, STATE / "cache").subset(np.arange(IMAGES))
    every = np.arange(IMAGES)
    x, y = images.batch(every).contiguous(), images.targets(every)
    for name, model in trained_models(AGREEMENT, shards).items():
        for threat in PAIRS[name]:
            path = kept(name, threat)
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout), FileLock(path.with_suffix(".lock"), blocking=False):
                if not path.exists():
                    found = compare(
                        name, model, *right(model, x, y), attacks_in(threat.norm), threat, time.process_time
                    )
                    write_json(path, {**found, **machine(), "revision": git_commit()})


def kept(name: str, threat: Threat) -> Path:
    """Return where the outcomes of a network under a threat are kept."""
    return HOME / "attacks" / f"{name}-{threat.norm}.json"


def outcomes() -> dict[str, dict[str, dict[str, Outcome]]]:
    """Return what is kept, by processor, network and threat."""
    found: dict[str, dict[str, dict[str, Outcome]]] = {}
    for name, threats in PAIRS.items():
        for threat in threats:
            if kept(name, threat).exists():
                outcome = read_json(kept(name, threat))
                found.setdefault(outcome["processor"], {}).setdefault(name, {})[str(threat)] = outcome
    return found


def embedded(count: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return the robust network of the lineage with those of `count` embedded images (N, 3, H, W) that it has right."""
    real, folder = STORE / "real_shards", STORE / "classifier" / "real" / "seed-0"
    if not (real.exists() and folder.exists()):
        raise AmalgamError("the store has no classifier to attack", "run make demo first")
    images = choose(open_images(real, SPLIT, STATE / "cache"), SPLIT, count, seed=0)
    every = np.arange(len(images))
    model = load_classifier(folder, torch.device("cpu"))[0]
    return model, *right(model, images.batch(every).contiguous(), images.targets(every))


@torch.no_grad()
def right(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images (M, 3, H, W) that the model classifies correctly, and their labels (M,)."""
    chosen = model(x.contiguous(memory_format=torch.channels_last)).argmax(dim=1) == y
    return x[chosen], y[chosen]


def compare(
    name: str,
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    attacks: Sequence[Attack],
    threat: Threat,
    clock: Callable[[], float],
) -> Outcome:
    """Return for each side and attack which images (N,) survive and the seconds it took; and the signs of masking."""
    networks = {"reference": contiguous(model), "ours": model}
    sides: dict[str, dict[str, Outcome]] = {side: {} for side in SIDES}
    for attack in attacks:
        for side in SIDES:
            seconds, survived, outside = timed(side, networks[side], x, y, attack, threat, BATCH, clock)
            sides[side][attack.name] = {"seconds": seconds, "survived": survived, "outside": outside}
            print(f"{name}, {threat}, {attack.name}, {side}: {np.mean(survived):.3f} in {seconds:.1f} s", flush=True)
    signs = probe_model(model, x[:64], y[:64], threat, HonestyConfig(), torch.arange(64)[: len(x)]).signs
    black_box = _black_box_sign({name: found["survived"] for name, found in sides["ours"].items()}, threat)
    signs += [black_box] if black_box else []
    return {"images": len(x), "sides": sides, "signs": [sign.name for sign in signs if sign.raised]}


def _black_box_sign(survived: dict[str, list[bool]], threat: Threat) -> Sign | None:
    """Return the sign in the survivals of attacks that met all images, as if each had met what the ones before had left."""
    order = [*(attack for attack in survived if attack != BLACK_BOX), BLACK_BOX]
    standing = pd.DataFrame({attack: survived[attack] for attack in order}).cummin(axis=1)
    return black_box_sign(standing.assign(threat=str(threat)), order)


def timed(
    side: str,
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    attack: Attack,
    threat: Threat,
    batch: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, list[bool], int]:
    """Return the seconds that an attack takes on images (N, 3, H, W), which of them survive (N,), and how many left the ball.

    An image of the reference that is outside the ball counts as surviving: it is no example under this threat.
    """
    begun = clock()
    if side == "reference":
        adversarial = ask_reference(model, x, y, threat, batch, attack)
    else:
        adversarial = _ours(model, x.contiguous(memory_format=torch.channels_last), y, attack, threat, batch)
    seconds = clock() - begun
    if side == "ours":
        verify_adversarial(adversarial, x, threat, attack.name)
    outside = norm_of(adversarial - x, threat) > threat.eps * (1 + 1e-4) + 1e-6
    with torch.no_grad():
        survived = (model(adversarial).argmax(dim=1) == y) | outside
    return seconds, survived.tolist(), int(outside.sum())


def _ours(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack, threat: Threat, batch: int
) -> torch.Tensor:
    """Return what the evaluation makes of the images."""
    seeds = torch.arange(len(x))
    return torch.cat([run_attack(model, attack, x[i], y[i], threat, seeds[i], batch=batch) for i in seeds.split(batch)])
