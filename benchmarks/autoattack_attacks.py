"""Each attack of AutoAttack on its own, on the networks of the default lineage. Part of `benchmarks.autoattack`.

Three models: one trained without attacks, one trained by TRADES, and the first behind a rounding of its input, which has
no gradient. Each attack of the list `standard` meets all images that a model classifies correctly, on both sides with the
same budget; the ensemble's outcome of an image is the worst of its four. The two sides take turns, attack by attack, in
one process with the same threads. Outcomes are kept, so that a stopped run goes on.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.backends.cpu import get_cpu_capability

from benchmarks.autoattack_sides import HOME, SIDES, Rounded, ask_reference, contiguous
from ops.attack.attacks import Attack
from ops.attack.run import run_attack, verify_adversarial
from ops.attack.threat import Threat
from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.config import HonestyConfig
from ops.evaluate.honesty import Sign, probe_model
from ops.evaluate.predicting import choose
from ops.files import read_json, write_json
from ops.models.checkpoint import load_classifier, weights_digest
from pipelines.project import STATE, STORE
from pipelines.resources import git_commit

KEPT = HOME / "attacks"
THREAT = Threat(norm="linf", eps=4 / 255)
BATCH = 128
SPLIT = "test"
Outcome = dict[str, Any]


def subjects(count: int) -> dict[str, tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    """Return each model with images (N, 3, H, W) that it classifies correctly, out of `count`, and their labels (N,)."""
    real, folders = STORE / "real_shards", {n: STORE / "classifier" / n / "seed-0" for n in ("scorer", "real")}
    if not all(folder.exists() for folder in (real, *folders.values())):
        raise AmalgamError("the store has no classifiers to attack", "run make demo first")
    images = choose(open_images(real, SPLIT, STATE / "cache"), SPLIT, count, seed=0)
    every = np.arange(len(images))
    x, y = images.batch(every).contiguous(), images.targets(every)
    undefended, robust = (load_classifier(folders[n], torch.device("cpu"))[0] for n in ("scorer", "real"))
    found: dict[str, tuple[nn.Module, torch.Tensor, torch.Tensor]] = {}
    for name, model in (("undefended", undefended), ("robust", robust), ("masked", Rounded(undefended).eval())):
        with torch.no_grad():
            right = model(x.contiguous(memory_format=torch.channels_last)).argmax(dim=1) == y
        found[name] = (model, x[right], y[right])
    return found


def compare(name: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor, attacks: Sequence[Attack]) -> Outcome:
    """Return for each side and attack which images (N,) survive and the seconds it took; and the signs of masking."""
    networks = {"reference": contiguous(model), "ours": model}
    sides: dict[str, dict[str, Outcome]] = {side: {} for side in SIDES}
    for attack in attacks:
        for side in SIDES:
            path = KEPT / f"{name}-{attack.name}-{attack.steps}-{len(x)}-{weights_digest(model)[:8]}" / f"{side}.json"
            if not path.exists():
                seconds, survived = timed(side, networks[side], x, y, attack, THREAT, BATCH)
                about = {"instructions": get_cpu_capability(), "revision": git_commit()}
                write_json(path, {"seconds": seconds, "survived": survived, **about})
            sides[side][attack.name] = read_json(path)
            print(f"{name}, {attack.name}, {side}: {sides[side][attack.name]['seconds']:.1f} s", flush=True)
    signs = probe_model(model, x[:64], y[:64], THREAT, HonestyConfig(), torch.arange(64)[: len(x)]).signs
    gradient = np.all([o["survived"] for a, o in sides["ours"].items() if a != "square"], axis=0)
    black_box = gradient & ~np.array(sides["ours"]["square"]["survived"])
    signs.append(Sign("images that only the black-box attack turns", float(black_box.mean())))
    return {"images": len(x), "sides": sides, "signs": [sign.name for sign in signs if sign.raised]}


def timed(
    side: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack, threat: Threat, batch: int
) -> tuple[float, list[bool]]:
    """Return the seconds that an attack takes on images (N, 3, H, W), and which of them survive (N,)."""
    begun = time.perf_counter()
    if side == "reference":
        adversarial = ask_reference(model, x, y, threat, batch, attack)
    else:
        adversarial = _ours(model, x.contiguous(memory_format=torch.channels_last), y, attack, threat, batch)
    seconds = time.perf_counter() - begun
    verify_adversarial(adversarial, x, threat, f"{attack.name} ({side})")
    with torch.no_grad():
        survived: list[bool] = (model(adversarial).argmax(dim=1) == y).tolist()
    return seconds, survived


def _ours(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack, threat: Threat, batch: int
) -> torch.Tensor:
    """Return what the evaluation makes of the images."""
    seeds = torch.arange(len(x))
    return torch.cat([run_attack(model, attack, x[i], y[i], threat, seeds[i]) for i in seeds.split(batch)])
