"""Does augmentation with weight averaging cure robust overfitting, and do generated data help? A study in miniature.

    python -m benchmarks.robust_training [--parts augmentation generated ...] [--cifar10 ZIP] [--seeds 5] [--quick]

Parts: `augmentation` (MNIST-5k with label noise, where a small network overfits as a large one does on CIFAR-10),
`generated` (MNIST-5k, few images: Gaussian samples and the alpha curve), `emoji` (the embedded dataset: augmentation,
Gaussian and diffusion samples) and `cifar10` (photographs: a stated subset, from a zip of JPEG
class folders). Trainings run side by side, one thread each; finished ones are kept in `.amalgam/studies/robust_training`
and not repeated. Writes `docs/results/robust_training.json`, `.md` and a picture from all that is finished.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from benchmarks.robust_training_page import write_page
from ops.files import read_json, write_json
from ops.train.recipe import Recipe
from pipelines.project import STATE
from pipelines.resources import git_commit

HOME = STATE / "studies" / "robust_training"
PARTS = ("augmentation", "generated", "emoji", "cifar10")
Tree = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training of the study."""

    part: str
    name: str
    recipe: Recipe
    data: str
    """Folder of real shards, relative to HOME."""
    synthetic: str | None
    seed: int

    @property
    def folder(self) -> Path:
        """Where its outcome is kept; another recipe is another folder."""
        text = json.dumps([self.recipe.model_dump(mode="json"), self.data, self.synthetic], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:10]
        return HOME / "runs" / f"{self.part}-{self.name.replace(' ', '-')}-{key}" / f"seed-{self.seed}"

    @property
    def outcome(self) -> Tree | None:
        """What the training found, or None if it is not finished."""
        path = self.folder / "history.json"
        return read_json(path) if path.exists() else None


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cifar10", type=Path, metavar="ZIP", help="JPEG class folders of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings side by side")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, nothing is written")
    parser.add_argument("--page", action="store_true", help="only write the page from what is finished")
    chosen = parser.parse_args()
    parts = [p for p in chosen.parts if p != "cifar10" or chosen.cifar10 or (HOME / "cifar10").exists()]
    runs = [run for part in parts for run in plan(part, 1 if chosen.quick else chosen.seeds, chosen.quick)]
    runs.sort(key=lambda run: run.seed)  # every comparison has its first seeds soon
    if not chosen.page:
        prepare(parts, chosen.cifar10)
        execute([run for run in runs if run.outcome is None], chosen.jobs)
    if not chosen.quick:
        write_page([run for run in runs if run.outcome is not None])


def prepare(parts: Sequence[str], cifar10: Path | None) -> None:
    """Make the data that the parts need, once."""
    from benchmarks import fairness_data, study_data
    from benchmarks.study_folders import once

    def made(name: str, make: Callable[[Path], object]) -> None:
        once(HOME / name, lambda out, _: make(out))

    if {"augmentation", "generated"} & set(parts):
        made("mnist-noisy", lambda out: study_data.mnist_5k(out, train=500, validation=500, test=1000, label_noise=0.2))
        made("mnist", lambda out: study_data.mnist_5k(out, train=500, validation=500, test=1000))
        made("mnist-gaussian", lambda out: study_data.gaussian_shards(HOME / "mnist", out, multiple=4))
    if "emoji" in parts:
        real = fairness_data.real()
        made("emoji", lambda out: shutil.copytree(real, out, dirs_exist_ok=True))
        made("emoji-gaussian", lambda out: study_data.gaussian_shards(real, out, multiple=1))
        for multiple in (1, 3):
            once(
                HOME / f"emoji-diffusion-{multiple}",
                partial(fairness_data.filtered, real, fairness_data.LABEL_ATTRIBUTE, multiple),
            )
    if "cifar10" in parts and cifar10 is not None:
        zip_path = cifar10
        made("cifar10", lambda out: study_data.cifar10(zip_path, out, train=2000, validation=500, test=1000))


def plan(part: str, seeds: int, quick: bool) -> Iterator[Run]:
    """Yield the trainings of a part."""
    for seed in range(seeds):
        for name, (data, synthetic, changes) in RECIPES[part].items():
            recipe = Recipe.model_validate(merged(BASES[part], changes))
            if quick:
                short = recipe.schedule.model_copy(update={"epochs": 1})
                recipe = recipe.model_copy(update={"schedule": short, "description": "quick"})
            yield Run(part, name, recipe, data, synthetic, seed)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Return `base` with `changes`; mappings merge."""
    tree = dict(base)
    for key, value in changes.items():
        tree[key] = merged(tree[key], value) if isinstance(value, Mapping) and key in tree else value
    return tree


# MNIST, where a network as small as this one can fit the training images, false labels included, under the attack.
_MNIST: Tree = {
    "architecture": {
        "family": "preact_resnet",
        "widths": [8, 32, 64],
        "blocks": [1, 1, 1],
        "stem_stride": 2,
        "grid": 4,
    },
    "threat": {"norm": "linf", "eps": 0.1},
    "loss": "pgd_at",
    "attack": {"steps": 5, "step_size": 0.4},
    "augmentation": {"crop": 0, "flip": False},
    "averaging": {"decay": 0.98},
    "schedule": {"epochs": 60, "batch": 100, "lr": 0.1, "shape": "piecewise", "warmup": 0, "drops": [2 / 3]},
    "reviews": {"count": 8, "images": 400, "steps": 10, "splits": ["validation", "test"]},
}
_EMOJI: Tree = {
    "architecture": {"family": "preact_resnet", "widths": [16, 32, 64], "blocks": [1, 1, 1], "stem_stride": 2},
    "threat": {"norm": "linf", "eps": "4/255"},
    "loss": "trades",
    "attack": {"steps": 3, "step_size": 0.5},
    "augmentation": {"crop": 2, "padding": "edge", "flip": True},
    "averaging": {"decay": 0.98},
    "schedule": {"epochs": 10, "batch": 128, "lr": 0.1, "shape": "piecewise", "warmup": 0.05, "drops": [2 / 3]},
    "reviews": {"count": 4, "images": 400, "steps": 10, "splits": ["validation", "test"], "live": False},
}
_CIFAR: Tree = merged(
    _EMOJI,
    {
        "threat": {"norm": "linf", "eps": "8/255"},
        "attack": {"steps": 5, "step_size": 0.4},
        "augmentation": {"crop": 4, "padding": "zeros"},
        "schedule": {"epochs": 30},
        "reviews": {"count": 6, "live": True},
    },
)
_SAMPLES: Tree = merged(_MNIST, {"reviews": {"count": 4, "live": False}})
BASES = {"augmentation": _MNIST, "generated": _SAMPLES, "emoji": _EMOJI, "cifar10": _CIFAR}

_CUTMIX = {"mixing": {"method": "cutmix"}}
_AUGMENTATIONS = {
    "none": {"crop": 0, "flip": False},
    "pad and crop": {},
    "cutmix": _CUTMIX,
}


def _share(alpha: float) -> Tree:
    return {"mix": {"real_fraction": alpha}}


RECIPES: dict[str, dict[str, tuple[str, str | None, Tree]]] = {
    "augmentation": {
        "none": ("mnist-noisy", None, {}),
        "pad and crop": ("mnist-noisy", None, {"augmentation": {"crop": 2}}),
        "cutmix": ("mnist-noisy", None, {"augmentation": {"crop": 2, **_CUTMIX}}),
    },
    "generated": {
        "real": ("mnist", None, {}),
        **{f"gaussian alpha {a:g}": ("mnist", "mnist-gaussian", _share(a)) for a in (0.7, 0.3, 0.0)},
    },
    "emoji": {
        **{name: ("emoji", None, {"augmentation": tree}) for name, tree in _AUGMENTATIONS.items()},
        "gaussian alpha 0.7": ("emoji", "emoji-gaussian", _share(0.7)),
        "diffusion alpha 0.7": ("emoji", "emoji-diffusion-1", _share(0.7)),
        "diffusion x3 alpha 0.7": ("emoji", "emoji-diffusion-3", _share(0.7)),
        "diffusion x3 alpha 0.3": ("emoji", "emoji-diffusion-3", _share(0.3)),
    },
    "cifar10": {
        "pad and crop": ("cifar10", None, {}),
        "cutmix": ("cifar10", None, {"augmentation": _CUTMIX}),
    },
}


def execute(runs: Sequence[Run], jobs: int) -> None:
    """Train what is missing, `jobs` at a time."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # the children's share
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {pool.submit(train, run): run for run in runs}
        for done in tqdm(as_completed(waiting), total=len(waiting), desc="trainings"):
            done.result()


def train(run: Run) -> None:
    """Do one training and keep its history."""
    from ops.progress import Silent
    from ops.runtime import configure_torch, pick_device
    from ops.train.loop import train_classifier

    configure_torch()
    scratch, out = run.folder / "scratch", run.folder / "out"
    for folder in (scratch, out):
        folder.mkdir(parents=True, exist_ok=True)
    real, synthetic = HOME / run.data, HOME / run.synthetic if run.synthetic else None
    with FileLock(run.folder / "lock"):  # children of a study that was killed go on for a while
        if run.outcome is not None:
            return
        train_classifier(
            run.recipe,
            run.name,
            real,
            synthetic,
            None,
            run.seed,
            out,
            scratch,
            STATE / "cache",
            pick_device(),
            Silent(),
        )
        history = read_json(out / "history.json")
        shutil.rmtree(scratch)
        shutil.rmtree(out)
        write_json(run.folder / "history.json", {**history, "revision": git_commit()})


if __name__ == "__main__":
    main()
