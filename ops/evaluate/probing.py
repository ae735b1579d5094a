"""Probe all models for signs of masked gradients, and draw their accuracy against eps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ops.data.loading import ImageSet
from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.honesty import RANDOM, Sign, probe_model
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row, split_name
from ops.evaluate.outcome_signs import outcome_signs
from ops.evaluate.predicting import choose, seeded_noise
from ops.files import read_json, write_json
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.runtime import derive_seed

UNBOUNDED = "unbounded"


def probe_models(
    config: RobustnessConfig,
    models: Mapping[str, Path],
    images: ImageSet,
    predictions: pd.DataFrame,
    ledgers: Mapping[str, Path],
    device: torch.device,
    monitor: Monitor,
) -> tuple[dict[str, list[Sign]], dict[str, dict[str, list[bool]]]]:
    """Return for each model its signs, and which of `config.honesty.images` images survive at which radius.

    `images` are those of the first split that is attacked, `predictions` their outcomes. Radii are multiples of eps, as
    text, or `unbounded`; those at which the attack breaks off are left out. A model that was probed, as its folder in
    `ledgers` says, is not probed again.
    """
    few = choose(images, config.attacked_splits()[0], config.honesty.images, config.seed)
    signs: dict[str, list[Sign]] = {}
    survivors: dict[str, dict[str, list[bool]]] = {}
    for done, name in enumerate(sorted(models), start=1):
        ledger = ledgers[name] / "honesty.json"
        if not ledger.exists():
            write_json(ledger, _probe(config, models[name], few, device))
        found = read_json(ledger)
        model, seed = split_name(name)
        mine = predictions[(predictions["model"] == model) & (predictions["seed"] == seed)]
        random = config.expects_randomness()
        probed = [Sign(**sign) for sign in found["signs"]]
        signs[name] = [sign for sign in probed if not (random and sign.name == RANDOM)]
        signs[name] += outcome_signs(mine, config.attack_names(), random)
        survivors[name] = found["survivors"]
        monitor.progress(done, len(models), "probing")
    return signs, survivors


def _probe(config: RobustnessConfig, folder: Path, images: ImageSet, device: torch.device) -> dict[str, Any]:
    model, _ = load_classifier(folder, device)
    every = np.arange(len(images))
    seeds = torch.tensor([derive_seed(config.seed, "probe", identity) for identity in images.table["id"]])
    x = images.batch(every).to(device, memory_format=torch.channels_last)
    with seeded_noise(device, config.seed, "probe"):
        probe = probe_model(model, x, images.targets(every).to(device), config.threats[0], config.honesty, seeds)
    return {
        "signs": [{"name": sign.name, "value": sign.value} for sign in probe.signs],
        "survivors": {
            UNBOUNDED if multiple == float("inf") else f"{multiple:g}": survived.tolist()
            for multiple, survived in probe.survivors.items()
        },
    }


def curve_rows(
    survivors: Mapping[str, Mapping[str, Sequence[bool]]], config: RobustnessConfig, dataset: str
) -> list[dict[str, Any]]:
    """Return accuracy under PGD against eps as measurement rows, such as `accuracy under pgd at 0.5 eps (linf 4/255)`."""
    rows = []
    for name, radii in survivors.items():
        for radius, survived in radii.items():
            metric = f"accuracy under pgd, {radius if radius == UNBOUNDED else f'{radius} eps'} ({config.threats[0]})"
            interval = wilson(sum(survived), len(survived))
            rows.append(row(name, dataset, config.attacked_splits()[0], "all", metric, interval, len(survived)))
    return rows


def draw_curve(survivors: Mapping[str, Mapping[str, Sequence[bool]]], config: RobustnessConfig, path: Path) -> None:
    """Save accuracy under PGD against eps, a line for each model (mean over the seeds of which it is known)."""
    from matplotlib.figure import Figure

    models: dict[str, list[Mapping[str, Sequence[bool]]]] = {}
    for name, radii in survivors.items():
        models.setdefault(split_name(name)[0], []).append(radii)
    # an attack may have broken off at some radii of some seeds
    ticks = sorted({tick for radii in survivors.values() for tick in radii}, key=_radius)
    figure = Figure(figsize=(7.6, 2.8))
    axes = figure.subplots()
    for number, (name, seeds) in enumerate(models.items()):
        means = [_mean([float(np.mean(radii[tick])) for radii in seeds if tick in radii]) for tick in ticks]
        axes.plot(ticks, means, "-o", markersize=4, color=COLOURS[number % len(COLOURS)], label=name)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(f"radius in units of eps ({config.threats[0]})", fontsize=8)
    axes.set_ylabel("accuracy under PGD", fontsize=8)
    axes.set_title(f"{config.attacked_splits()[0]}: accuracy against eps", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _radius(tick: str) -> float:
    return float("inf") if tick == UNBOUNDED else float(tick)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
