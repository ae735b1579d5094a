"""Does the evaluation find the robust accuracy that AutoAttack finds? Whole ensembles on photographs, image by image.

Part of `benchmarks.autoattack`. Three networks are trained on CIFAR-10 (a stated subset), and portions of its test images
go to both sides as users would send them: to `AutoAttack(version="standard")` of pyautoattack, and to the evaluation with
`attacks: standard`, where each attack meets what still stands. A portion that both sides have judged is kept, so that a
stopped run goes on, and more images extend it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from benchmarks import study_data
from benchmarks.autoattack_sides import HOME, SIDES, Rounded, contiguous
from benchmarks.generator_training import Bar, once, revision_of
from ops.attack.threat import Threat
from ops.data.loading import ImageSet, open_images
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.outcomes import attack_images
from ops.files import read_json, write_json
from ops.models.checkpoint import load_classifier
from ops.runtime import pick_device
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe
from pipelines.project import STATE
from pipelines.resources import git_commit

TRAIN, TEST = 8000, 8000
PORTION = 500
"""Images of a portion, and of a batch on both sides."""
SPLIT = "test"
THREATS = {
    "undefended": Threat(norm="linf", eps=2 / 255),
    "robust": Threat(norm="linf", eps=8 / 255),
    "masked": Threat(norm="linf", eps=8 / 255),
}
"""The undefended network meets a radius at which some images stand; at 8/255 none does, and both sides agree trivially."""
SHARES = {"undefended": 1.0, "robust": 1.0, "masked": 0.125}
"""Of the images; a network that hides its gradient costs whole budgets for every image that it has right."""
COMMON: dict[str, Any] = {
    "architecture": {"family": "preact_resnet", "widths": [8, 16, 32], "blocks": [1, 1, 1], "stem_stride": 2},
    "augmentation": {"crop": 4, "padding": "zeros", "flip": True},
    "averaging": {"decay": 0.98},
    "schedule": {"epochs": 15, "batch": 128, "lr": 0.1, "shape": "piecewise", "warmup": 0.05, "drops": [2 / 3]},
    "reviews": {"count": 1, "images": 400, "steps": 10, "live": False},
}
RECIPES = {
    "undefended": Recipe.model_validate({**COMMON, "loss": "clean"}),
    "robust": Recipe.model_validate(
        {
            **COMMON,
            "loss": "trades",
            "threat": {"norm": "linf", "eps": "8/255"},
            "attack": {"steps": 5, "step_size": 0.4},
        }
    ),
}


def measure(archive: Path | None, wanted: int) -> None:
    """Judge the first `wanted` test images of CIFAR-10 on both sides, in portions; all models in turn.

    Several processes may do it together: a portion that another one is at is left to it.
    """
    shards = _shards(archive)
    images = open_images(shards, SPLIT, STATE / "cache")
    images = images.subset(np.arange(min(wanted, len(images))))
    models = _models(shards)
    (HOME / "agreement").mkdir(parents=True, exist_ok=True)
    for first in range(0, len(images), PORTION):
        portion = images.subset(np.arange(first, min(first + PORTION, len(images))))
        for name, model in models.items():
            path = HOME / "agreement" / f"{name}-{first:06d}.json"
            lock = FileLock(path.with_suffix(".lock"), blocking=False)
            if first >= SHARES[name] * len(images) or path.exists():
                continue
            with suppress(Timeout), lock:
                if not path.exists():  # the process that had the lock may just have finished
                    write_json(path, {**judge(model, portion, THREATS[name]), "revision": git_commit()})
                    print(f"{name}, images from {first} on: {_said(read_json(path))}", flush=True)


def judge(model: nn.Module, images: ImageSet, threat: Threat, steps: int | None = None) -> dict[str, Any]:
    """Return for each side which images (N,) are robust and the core seconds it took, and which the model has right at all.

    `steps` shortens every attack; None is the published budget.
    """
    plain = contiguous(model)
    runs: dict[str, Callable[[], list[bool]]] = {
        "reference": lambda: _reference(plain, images, threat, steps),
        "ours": lambda: _ours(model, images, threat, steps),
    }
    every = np.arange(len(images))
    with torch.no_grad():
        clean = (model(images.batch(every)).argmax(dim=1) == images.targets(every)).tolist()
    found: dict[str, Any] = {"clean": clean}
    for side in SIDES:
        begun = time.process_time()
        robust = runs[side]()
        found[side] = {"robust": robust, "seconds": time.process_time() - begun}
    return found


def outcomes() -> dict[str, dict[str, Any]]:
    """Return what is kept of each model: images (N,) that are right and robust on each side, seconds, revisions."""
    found = {}
    for name in THREATS:
        portions = [read_json(path) for path in sorted((HOME / "agreement").glob(f"{name}-*.json"))]
        if portions:
            found[name] = {
                "threat": str(THREATS[name]),
                "clean": np.concatenate([p["clean"] for p in portions]),
                **{side: np.concatenate([p[side]["robust"] for p in portions]) for side in SIDES},
                "seconds": {side: sum(p[side]["seconds"] for p in portions) for side in SIDES},
                "revisions": sorted({p["revision"][:12] for p in portions}),
                "trained": revision_of(HOME / ("undefended" if name == "masked" else name)),
            }
    return found


def _reference(model: nn.Module, images: ImageSet, threat: Threat, steps: int | None) -> list[bool]:
    """Return which images (N,) AutoAttack's standard version leaves robust."""
    from pyautoattack import AutoAttack

    every = np.arange(len(images))
    x, y = images.batch(every).contiguous(), images.targets(every)
    peer = AutoAttack(model, norm="Linf", eps=threat.eps, seed=0, version="standard")
    if steps is not None:
        peer.apgd.n_iter = peer.apgd_targeted.n_iter = peer.fab.n_iter = peer.square.n_queries = steps
    adversarial, _ = peer.run_standard_evaluation(x, y, batch_size=PORTION)
    with torch.no_grad():
        robust: list[bool] = (model(adversarial).argmax(dim=1) == y).tolist()
    return robust


def _ours(model: nn.Module, images: ImageSet, threat: Threat, steps: int | None) -> list[bool]:
    """Return which images (N,) the evaluation leaves robust."""
    config = RobustnessConfig(splits=[SPLIT], threats=[threat], attacks="standard", images=len(images), batch=PORTION)
    if steps is not None:
        shorter = [attack.model_copy(update={"steps": steps}) for attack in config.attacks_in(threat.norm)]
        config = config.model_copy(update={"attacks": shorter})
    table = attack_images(model, "measured/seed-0", images, SPLIT, threat, config, torch.device("cpu"))
    robust: list[bool] = table["robust"].tolist()
    return robust


def _shards(archive: Path | None) -> Path:
    """Return the images, made from the zip once."""
    out = HOME / "cifar10"
    if archive is not None:
        study_data.cifar10(archive, out, train=TRAIN, validation=500, test=TEST)
    return out


def _models(shards: Path) -> dict[str, nn.Module]:
    """Return the networks, trained once."""

    def trained(name: str) -> nn.Module:
        def make(out: Path, scratch: Path) -> None:
            parts = (scratch, STATE / "cache", pick_device(), Bar(name))
            train_classifier(RECIPES[name], name, shards, None, None, 0, out, *parts)

        return load_classifier(once(HOME / name, make), torch.device("cpu"))[0]

    models: dict[str, nn.Module] = {name: trained(name) for name in RECIPES}
    return {**models, "masked": Rounded(models["undefended"]).eval()}


def _said(found: dict[str, Any]) -> str:
    shares = {side: f"{np.mean(found[side]['robust']):.3f} in {found[side]['seconds']:.0f} s" for side in SIDES}
    return ", ".join(f"{side} {said}" for side, said in shares.items())
