"""Does the evaluation find the robust accuracy that AutoAttack finds, and how much faster? Whole ensembles on photographs.

Parts of `benchmarks.autoattack`. Three models are trained on CIFAR-10 (a stated subset), and portions of its test images go to
both sides as users would send them: to `AutoAttack(version="standard")` of pyautoattack, and to the evaluation with
`attacks: standard`, where each attack meets what still stands. `agreement` asks for many images of narrow networks,
`agreement-l2` and `agreement-l1` likewise in other norms, `speed`, `speed-l2` and `speed-l1` for few of networks that are as
wide as usual, and `depth` of the usual network, PreAct-ResNet-18. A portion that both sides have judged is kept, so that a
stopped run goes on, and more images extend it.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from benchmarks import study_data
from benchmarks.autoattack_sides import HOME, SIDES, Rounded, ask_reference, contiguous
from benchmarks.generator_training import Bar
from benchmarks.machine import machine
from benchmarks.study_folders import once, revision_of
from ops.attack.threat import Norm, Threat
from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
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
SPLIT = "test"
USUAL = Threat(norm="linf", eps=8 / 255)
PAIRS = {
    "undefended": (Threat(norm="linf", eps=2 / 255), Threat(norm="l2", eps=0.2), Threat(norm="l1", eps=3)),
    "robust": (USUAL, Threat(norm="l2", eps=0.5), Threat(norm="l1", eps=8)),
    "masked": (USUAL,),
}
"""Networks, and threats that they meet where both sides should agree: radii at which some images fall and some stand. (At the
usual one none of a narrow undefended network does, and both sides agree trivially.)"""


@dataclass(frozen=True)
class Question:
    """What one part asks: of which networks, how many images, and what its seconds are."""

    part: str
    widths: tuple[int, ...]
    blocks: int
    """Of each width."""
    stem_stride: int
    epochs: int
    attack_steps: int
    """Of the inner attack of the robust network's training."""
    images: int
    portion: int
    """Images of a portion: all of them are a batch of the reference's, ours are of the evaluation's usual size."""
    masked: int
    """Images for the masked network, which costs whole budgets for every image that it has right."""
    clock: Callable[[], float]
    threats: Mapping[str, Threat]
    """The networks, and what each of them meets."""
    trained: str
    """The part whose networks these are."""

    def shape(self) -> dict[str, Any]:
        """Return the architecture of the networks."""
        blocks = [self.blocks] * len(self.widths)
        return {"family": "preact_resnet", "widths": self.widths, "blocks": blocks, "stem_stride": self.stem_stride}

    def recipes(self) -> dict[str, Recipe]:
        """Return the recipes of the networks that are trained."""
        common: dict[str, Any] = {
            "architecture": self.shape(),
            "augmentation": {"crop": 4, "padding": "zeros", "flip": True},
            "averaging": {"decay": 0.98},
            "schedule": {
                "epochs": self.epochs,
                "batch": 128,
                "lr": 0.1,
                "shape": "piecewise",
                "warmup": 0.05,
                "drops": [2 / 3],
            },
            "reviews": {"count": 1, "images": 400, "steps": 10, "live": False},
        }
        attack = {"steps": self.attack_steps, "step_size": 2 / self.attack_steps}
        trades = {"loss": "trades", "threat": USUAL.model_dump(), "attack": attack}
        return {
            "undefended": Recipe.model_validate({**common, "loss": "clean"}),
            "robust": Recipe.model_validate({**common, **trades}),
        }

    def model(self, name: str) -> Path:
        """Return the folder of a trained network."""
        return HOME / "models" / f"{self.trained}-{name}"

    def kept(self, name: str, first: int) -> Path:
        """Return where the outcomes of the portion that begins with image `first` are kept."""
        return HOME / self.part / f"{name}-{first:06d}.json"


def _under(norm: Norm) -> dict[str, Threat]:
    """Return the networks that meet a threat of this norm, and the threat."""
    return {name: threat for name, threats in PAIRS.items() for threat in threats if threat.norm == norm}


AGREEMENT = Question(
    "agreement", (8, 16, 32), 1, 2, 15, 5, TEST, 500, 2000, time.process_time, _under("linf"), "agreement"
)
AGREEMENT_L2 = replace(AGREEMENT, part="agreement-l2", threats=_under("l2"))
AGREEMENT_L1 = replace(AGREEMENT, part="agreement-l1", threats=_under("l1"))
SPEED = Question(
    "speed", (64, 128, 256), 1, 2, 5, 3, 64, 64, 64, time.perf_counter, dict.fromkeys(PAIRS, USUAL), "speed"
)
SPEED_L2 = replace(SPEED, part="speed-l2", threats=_under("l2"))
SPEED_L1 = replace(SPEED, part="speed-l1", threats=_under("l1"))
DEPTH = Question(
    "depth", (64, 128, 256, 512), 2, 1, 5, 3, 32, 32, 32, time.perf_counter, dict.fromkeys(PAIRS, USUAL), "depth"
)


def measure(question: Question, archive: Path | None, wanted: int) -> None:
    """Judge the first `wanted` test images of CIFAR-10 on both sides, in portions; all models in turn.

    Several processes may do it together: a portion that another one is at is left to it.
    """
    shards = photographs(archive)
    images = open_images(shards, SPLIT, STATE / "cache")
    images = images.subset(np.arange(min(wanted, len(images))))
    models = trained_models(question, shards)
    for first in range(0, len(images), question.portion):
        portion = images.subset(np.arange(first, min(first + question.portion, len(images))))
        for name, threat in question.threats.items():
            path = question.kept(name, first)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() or (name == "masked" and first >= question.masked):
                continue
            with suppress(Timeout), FileLock(path.with_suffix(".lock"), blocking=False):
                if not path.exists():  # the process that had the lock may just have finished
                    found = judge(models[name], portion, threat, question.clock)
                    write_json(path, {**found, **machine(), "revision": git_commit()})
                    print(f"{name}, {threat}, images from {first} on: {_said(found)}", flush=True)


def judge(
    model: nn.Module,
    images: ImageSet,
    threat: Threat,
    clock: Callable[[], float],
    steps: int | None = None,
) -> dict[str, Any]:
    """Return for each side which images (N,) are robust and the seconds it took, and which the model has right at all.

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
        begun = clock()
        robust = runs[side]()
        found[side] = {"robust": robust, "seconds": clock() - begun}
    return found


def outcomes(question: Question) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what is kept, by processor and model: images (N,) that are right and robust on each side, seconds, revisions."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, threat in question.threats.items():
        kept = [read_json(path) for path in sorted((HOME / question.part).glob(f"{name}-*.json"))]
        for processor in sorted({portion["processor"] for portion in kept}):
            portions = [portion for portion in kept if portion["processor"] == processor]
            found.setdefault(processor, {})[name] = {
                "threat": str(threat),
                "clean": np.concatenate([p["clean"] for p in portions]),
                **{side: np.concatenate([p[side]["robust"] for p in portions]) for side in SIDES},
                "seconds": {side: sum(p[side]["seconds"] for p in portions) for side in SIDES},
                "threads": sorted({p["threads"] for p in portions}),
                "revisions": sorted({p["revision"][:12] for p in portions}),
                "trained": revision_of(question.model("undefended" if name == "masked" else name)),
            }
    return found


def _reference(model: nn.Module, images: ImageSet, threat: Threat, steps: int | None) -> list[bool]:
    """Return which images (N,) AutoAttack's standard version leaves robust."""
    every = np.arange(len(images))
    x, y = images.batch(every).contiguous(), images.targets(every)
    adversarial = ask_reference(model, x, y, threat, len(x), steps=steps)
    with torch.no_grad():
        robust: list[bool] = (model(adversarial).argmax(dim=1) == y).tolist()
    return robust


def _ours(model: nn.Module, images: ImageSet, threat: Threat, steps: int | None) -> list[bool]:
    """Return which images (N,) the evaluation leaves robust."""
    config = RobustnessConfig(splits=[SPLIT], threats=[threat], attacks="standard", images=len(images))
    if steps is not None:
        shorter = [attack.model_copy(update={"steps": steps}) for attack in config.attacks_in(threat.norm)]
        config = config.model_copy(update={"attacks": shorter})
    table = attack_images(model, "measured/seed-0", images, SPLIT, threat, config, torch.device("cpu"))
    robust: list[bool] = table["robust"].tolist()
    return robust


def photographs(archive: Path | None) -> Path:
    """Return the images, made from the zip once."""
    out = HOME / "cifar10"
    if archive is None and not out.exists():
        raise AmalgamError(
            "the photographs of CIFAR-10 are not here", "name a zip of its JPEG class folders: --cifar10 ZIP"
        )
    if archive is not None:
        study_data.cifar10(archive, out, train=TRAIN, validation=500, test=TEST)
    return out


def trained_models(question: Question, shards: Path) -> dict[str, nn.Module]:
    """Return the networks, trained once."""

    def trained(name: str, recipe: Recipe) -> nn.Module:
        def make(out: Path, scratch: Path) -> None:
            parts = (scratch, STATE / "cache", pick_device(), Bar(name))
            train_classifier(recipe, name, shards, None, None, 0, out, *parts)

        return load_classifier(once(question.model(name), make), torch.device("cpu"))[0]

    models: dict[str, nn.Module] = {name: trained(name, recipe) for name, recipe in question.recipes().items()}
    return {**models, "masked": Rounded(models["undefended"]).eval()}


def _said(found: dict[str, Any]) -> str:
    shares = {side: f"{np.mean(found[side]['robust']):.3f} in {found[side]['seconds']:.0f} s" for side in SIDES}
    return ", ".join(f"{side} {said}" for side, said in shares.items())
