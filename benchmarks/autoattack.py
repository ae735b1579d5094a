"""Is the evaluation as strong as AutoAttack, and how much faster? Against `pyautoattack`, attack by attack.

    python -m benchmarks.autoattack [--images 256]       # writes docs/results/evaluation.*; needs `make demo` first
    python -m benchmarks.autoattack --json [--quick]     # one line; --quick: few images, a twentieth of the steps

Three models: one trained without attacks, one trained by TRADES, and the first behind a rounding of its input, which has
no gradient. Each attack of the list `standard` meets all images that a model classifies correctly, on both sides with the
same budget; the ensemble's outcome of an image is the worst of its four. The two sides take turns, attack by attack, in
one process with the same threads. The reference runs the same network as its users do: contiguous tensors, parameters
that want gradients. Outcomes are kept in `.amalgam/studies/autoattack`, so that a stopped run goes on.
"""

import argparse
import copy
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.results import HOLDS, table, write_result  # noqa: E402
from ops.attack.attacks import Attack, published  # noqa: E402
from ops.attack.run import run_attack, verify_adversarial  # noqa: E402
from ops.attack.threat import Threat  # noqa: E402
from ops.data.loading import open_images  # noqa: E402
from ops.errors import AmalgamError  # noqa: E402
from ops.evaluate.config import HonestyConfig  # noqa: E402
from ops.evaluate.honesty import Sign, probe_model  # noqa: E402
from ops.evaluate.intervals import wilson  # noqa: E402
from ops.evaluate.measurements import row  # noqa: E402
from ops.evaluate.predicting import choose  # noqa: E402
from ops.files import read_json, write_json  # noqa: E402
from ops.models.checkpoint import load_classifier, weights_digest  # noqa: E402
from ops.runtime import configure_torch  # noqa: E402
from pipelines.project import STATE, STORE  # noqa: E402

COMMAND = "python -m benchmarks.autoattack"
KEPT = STATE / "studies" / "autoattack"
THREAT = Threat(norm="linf", eps=4 / 255)
BATCH = 128
SPLIT = "test"
SIDES = ("reference", "ours")
LEVELS = 15
GOAL = 3.0
CLOSER, HIGHER = 0.002, 0.001
"""Largest difference of robust accuracies, and by how much ours may be the higher one."""
Outcome = dict[str, Any]


class Rounded(nn.Module):
    """A network behind a rounding of its input: gradients are 0, robustness is not what it seems."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return self.model((x * LEVELS).round() / LEVELS)


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print one line instead of writing the page")
    parser.add_argument("--quick", action="store_true", help="the robust model, 24 images, a twentieth of the steps")
    chosen = parser.parse_args()
    configure_torch()
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    count = 24 if chosen.quick else chosen.images
    attacks = [shortened(a) for a in published("standard", THREAT.norm)] if chosen.quick else None
    found = {
        name: compare(name, model, x, y, attacks or published("standard", THREAT.norm))
        for name, (model, x, y) in subjects(count).items()
        if not chosen.quick or name == "robust"
    }
    if chosen.json or chosen.quick:
        print(json.dumps(line(found["robust"])))
    else:
        write(found)


def shortened(attack: Attack) -> Attack:
    """Return the attack with a twentieth of its steps."""
    return attack.model_copy(update={"steps": attack.steps // 20})


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


def compare(name: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor, attacks: list[Attack]) -> Outcome:
    """Return for each side and attack which images (N,) survive and the seconds it took; and the signs of masking."""
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    runs: dict[str, Callable[[Attack], torch.Tensor]] = {
        "reference": lambda attack: reference(plain, x, y, attack),
        "ours": lambda attack: ours(model, x.contiguous(memory_format=torch.channels_last), y, attack),
    }
    sides: dict[str, dict[str, Outcome]] = {side: {} for side in SIDES}
    for attack in attacks:
        for side in SIDES:
            path = KEPT / f"{name}-{attack.name}-{attack.steps}-{len(x)}-{weights_digest(model)[:8]}" / f"{side}.json"
            if not path.exists():
                begun = time.perf_counter()
                adversarial = runs[side](attack)
                seconds = time.perf_counter() - begun
                verify_adversarial(adversarial, x, THREAT, f"{attack.name} ({side})")
                with torch.no_grad():
                    survived = (model(adversarial).argmax(dim=1) == y).tolist()
                write_json(path, {"seconds": seconds, "survived": survived})
            sides[side][attack.name] = read_json(path)
            print(f"{name}, {attack.name}, {side}: {sides[side][attack.name]['seconds']:.1f} s", flush=True)
    signs = probe_model(model, x[:64], y[:64], THREAT, HonestyConfig(), torch.arange(64)[: len(x)]).signs
    gradient = np.all([o["survived"] for a, o in sides["ours"].items() if a != "square"], axis=0)
    black_box = gradient & ~np.array(sides["ours"]["square"]["survived"])
    signs.append(Sign("images that only the black-box attack turns", float(black_box.mean())))
    return {"images": len(x), "sides": sides, "signs": [sign.name for sign in signs if sign.raised]}


def reference(model: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack) -> torch.Tensor:
    """Return what pyautoattack makes of the images, targets capped at the wrong classes as its users have to."""
    from pyautoattack import AutoAttack

    peer = AutoAttack(model, attacks=[attack.name], norm="Linf", eps=THREAT.eps, seed=0, version="custom")
    with torch.no_grad():
        wrong = model(x[:1]).shape[1] - 1
    peer.apgd.n_restarts = peer.fab.n_restarts = 1
    peer.apgd.n_iter = peer.apgd_targeted.n_iter = peer.fab.n_iter = attack.steps
    peer.apgd_targeted.n_target_classes = peer.fab.n_target_classes = min(attack.targets, wrong)
    peer.square.n_queries = attack.steps
    adversarial, _ = peer.run_standard_evaluation(x, y, batch_size=BATCH)
    return adversarial


def ours(model: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack) -> torch.Tensor:
    """Return what the evaluation makes of the images."""
    seeds = torch.arange(len(x))
    parts = [run_attack(model, attack, x[i], y[i], THREAT, seeds[i]) for i in seeds.split(BATCH)]
    return torch.cat(parts)


def ensemble(side: dict[str, Outcome]) -> np.ndarray:
    """Return which images (N,) survive all attacks."""
    return np.all([outcome["survived"] for outcome in side.values()], axis=0)


def seconds(side: dict[str, Outcome]) -> float:
    """Return the seconds of all attacks."""
    return sum(outcome["seconds"] for outcome in side.values())


def line(found: Outcome) -> dict[str, Any]:
    """Return the result as benchmarks print it."""
    theirs, mine = (found["images"] / seconds(found["sides"][side]) for side in SIDES)
    return {
        "name": "autoattack",
        "ratio": round(mine / theirs, 2),
        "ours": round(mine, 3),
        "baseline": round(theirs, 3),
        "unit": "images/s",
        "n": 1,
    }


def write(found: dict[str, Outcome]) -> None:
    """Write docs/results/evaluation.json and its page."""
    rows, lines, verdicts = [], [], []
    for name, outcome in found.items():
        sides, count = outcome["sides"], outcome["images"]
        for attack in [*sides["ours"], "all"]:
            survived = [
                ensemble(sides[side]) if attack == "all" else np.array(sides[side][attack]["survived"])
                for side in SIDES
            ]
            took = [seconds(sides[s]) if attack == "all" else sides[s][attack]["seconds"] for s in SIDES]
            for side, one in zip(SIDES, survived, strict=True):
                interval = wilson(int(one.sum()), count)
                rows.append(
                    row(f"{name} ({side})", "emoji-people", SPLIT, "all", f"survives {attack}", interval, count)
                )
            same = float((survived[0] == survived[1]).mean())
            shares = [f"{one.mean():.3f}" for one in survived]
            lines.append([name, attack, count, *shares, f"{same:.3f}", *(f"{t:.0f}" for t in took)])
            lines[-1].append(f"{took[0] / took[1]:.2f}")
        higher = ensemble(sides["ours"]).astype(float) - ensemble(sides["reference"])
        verdicts += judge(name, higher, line(outcome)["ratio"])
    header = ["model", "attack", "images", "survive the reference", "survive ours", "same outcome"]
    header += ["reference, s", "ours, s", "ratio"]
    judged = [f"- {v['claim']}: {HOLDS[v['holds']]} ({v['said']})." for v in verdicts]
    signs = [f"- {n}: {', '.join(outcome['signs']) or 'none'}." for n, outcome in found.items()]
    page = PAGE + table(header, lines) + "\n\n" + "\n".join(judged) + "\n\n" + SIGNS + "\n".join(signs) + "\n"
    write_result("evaluation", COMMAND, "default", rows, verdicts, page, found=found)


def judge(name: str, higher: np.ndarray, ratio: float) -> list[dict[str, Any]]:
    """Return the verdicts on one model from how much higher (N,) ours is on each image, and the ratio of speeds.

    The interval of the difference is from the Wilson intervals of the shares of images where only ours and only the
    reference's stand: no difference on a hundred images still leaves room for some points.
    """
    effect, count = float(higher.mean()), len(higher)
    high, low = wilson(int((higher > 0).sum()), count)[2], -wilson(int((higher < 0).sum()), count)[2]
    within = low >= -CLOSER and high <= HIGHER
    outside = low > HIGHER or high < -CLOSER
    common = {"source": "design goal", "seeds": 1}
    return [
        {"claim": f"{name}: robust accuracy within 0.2 points of AutoAttack's, and not 0.1 higher"}
        | {"paper_effect": "0", "effect": effect, "low": low, "high": high, "holds": True if within else None}
        | ({"holds": False} if outside else {})
        | {"said": f"{100 * effect:+.2f} points [{100 * low:+.1f}, {100 * high:+.1f}]"}
        | common,
        {"claim": f"{name}: at least {GOAL:g}x as fast"}
        | {"paper_effect": f"{GOAL:g}x", "effect": ratio, "low": ratio, "high": ratio}
        | {"holds": ratio >= GOAL, "said": f"{ratio:.2f}x"}
        | common,
    ]


PAGE = f"""# The evaluation against AutoAttack

The four attacks of AutoAttack's standard version, {THREAT}, on images of the split `{SPLIT}` of emoji-people that the model
classifies correctly: the evaluation's own code against `pyautoattack` 0.2.0. Seven classes, so six targets. Every attack
meets all images, so that attacks can be compared one by one (in use, each meets only what still stands); `all` is the
worst of the four. Two threads, one run; the two sides draw different random numbers.

"""
SIGNS = "Signs of masked gradients that are raised:\n\n"


if __name__ == "__main__":
    main()
