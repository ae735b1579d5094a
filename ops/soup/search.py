"""The choice of a soup's weights on a few validation images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from ops.attack.pgd import pgd
from ops.attack.threat import Threat
from ops.data.loading import ImageSet, open_images
from ops.data.pictures import COLOURS, save_figure
from ops.files import read_json, replacing, write_json
from ops.models.checkpoint import load_classifier, save_classifier
from ops.progress import Monitor
from ops.soup.combine import check_ancestry, combine, grid
from ops.soup.config import SoupConfig
from ops.summary import Summary


def make_soup(
    config: SoupConfig,
    models: Mapping[str, Path],
    real: Path,
    seed: int,
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Measure every mix of the grid on validation images, and write the best one as a model folder with `sweep.parquet`.

    Seasoning Model Soups: ingredients that were fine-tuned from one robust ancestor to different threats are mixed
    linearly, and the mix is chosen on a small sample of the target distribution. A finished mix is not measured again.
    """
    loaded = {name: load_classifier(folder, device) for name, folder in models.items()}
    check_ancestry({name: card for name, (_, card) in loaded.items()})
    # copies: the mixes are loaded into the first of these models, whose own weights must survive that
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model, _ in loaded.values()]
    model, card = next(iter(loaded.values()))
    images = open_images(real, "validation", cache)
    images = images.subset(np.linspace(0, len(images) - 1, min(config.images, len(images))).astype(np.int64))
    mixes = grid(len(states), config.step, config.extrapolate)
    rows: list[dict[str, Any]] = []
    for done, weights in enumerate(mixes):
        ledger = scratch / f"mix-{done:04d}.json"
        if not ledger.exists():
            model.load_state_dict(combine(states, weights))
            figures = measure(model.eval(), images, config.threats, config.attack_steps, device)
            write_json(ledger, {"weights": list(weights), **figures})
        rows.append(read_json(ledger))
        monitor.progress(done + 1, len(mixes), "mix", worst=rows[-1]["worst"])
        monitor.metrics(done, {key.replace("/", "_of_"): v for key, v in rows[-1].items() if key != "weights"})
    best = max(rows, key=lambda row: (row[config.criterion], row["clean"], -abs(row["weights"][0] - 0.5)))
    model.load_state_dict(combine(states, best["weights"]))
    metrics = {key: value for key, value in best.items() if key != "weights"}
    mix = dict(zip(models, best["weights"], strict=True))
    recipe = {"soup": config.model_dump(mode="json"), "weights": mix}
    save_classifier(out, model, card.model_copy(update={"name": "soup", "recipe": recipe, "metrics": metrics}))
    with replacing(out / "sweep.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    _picture(rows, list(models), config.threats, out)
    return Summary(
        {**{f"weight of {name}": w for name, w in mix.items()}, **metrics}, {"sweep": _table(rows, list(models))}
    )


def measure(
    model: nn.Module, images: ImageSet, threats: Sequence[Threat], steps: int, device: torch.device
) -> dict[str, float]:
    """Return clean accuracy, robust accuracy for each threat, and their worst and mean."""
    right = {key: 0 for key in ("clean", *map(str, threats))}
    for start in range(0, len(images), 128):
        chosen = np.arange(start, min(start + 128, len(images)))
        x = images.batch(chosen).to(device, memory_format=torch.channels_last)
        y = images.targets(chosen).to(device)
        with torch.no_grad():
            correct = model(x).argmax(dim=1) == y
        right["clean"] += int(correct.sum())
        for threat in threats:
            attacked = pgd(model, x, y, threat, steps=steps, example_seeds=torch.from_numpy(chosen))
            with torch.no_grad():
                right[str(threat)] += int((correct & (model(attacked).argmax(dim=1) == y)).sum())
    shares = {key: value / len(images) for key, value in right.items()}
    robust = [shares[str(threat)] for threat in threats]
    return {**shares, "worst": min(robust), "mean": float(np.mean(robust))}


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {**dict(zip(names, row["weights"], strict=True)), **{k: v for k, v in row.items() if k != "weights"}}
        for row in rows
    ]


def _picture(rows: Sequence[Mapping[str, Any]], names: Sequence[str], threats: Sequence[Threat], out: Path) -> None:
    """Save accuracies against the weight of the last ingredient."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.8))
    axes = figure.subplots()
    weights = [row["weights"][-1] for row in rows]
    order = np.argsort(weights, kind="stable")
    for number, key in enumerate(["clean", *map(str, threats), "worst"]):
        style = "--" if key == "worst" else "o-"
        values = [rows[i][key] for i in order]
        axes.plot([weights[i] for i in order], values, style, color=COLOURS[number], label=key)
    axes.set(xlabel=f"weight of {names[-1]}", ylabel="validation accuracy", ylim=(0, 1), title="soup sweep")
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out / "pictures" / "sweep.png")
