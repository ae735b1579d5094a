"""Clean and robust accuracy, with the outcome of every single image."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ops.attack.run import run_attack
from ops.attack.threat import Threat
from ops.data.loading import ImageSet, open_images
from ops.data.pictures import bars, labelled_rows
from ops.evaluate.calibration import debiased_calibration_error, draw_reliability, reliability
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.honesty import warnings
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import NO_THREAT, row, split_name, title, write_measurements
from ops.evaluate.outcomes import attack_images, classify_images
from ops.evaluate.predicting import choose
from ops.evaluate.probing import curve_rows, draw_curve, probe_models
from ops.files import read_json, replacing, write_json
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary

UNION = "robust accuracy (union of threats)"
REPLICATES = 500
"""Of the bootstrap behind the interval of the calibration error."""


def measure_robustness(
    config: RobustnessConfig,
    models: Mapping[str, Path],
    real: Path,
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Classify every image of every split with every model, and attack a sample of those that are to be attacked.

    An example counts as robust if it is classified correctly and survives all attacks; attacks after the first meet only
    examples that still stand. `predictions.parquet` holds one row for each model, image and threat, so that nothing is
    ever attacked twice; a finished (model, split, threat) in `scratch` is not repeated. `honesty.json` says which models
    show signs of masked gradients, `curve.parquet` how accuracy falls with eps.

    Raises AmalgamError for logits that are no numbers and for perturbations outside the threat model.
    """
    dataset = read_json(real / "dataset.json")
    pieces: list[pd.DataFrame] = []
    met: dict[str, list[Threat | None]] = {
        split: [None, *(config.threats if split in config.attacked_splits() else [])] for split in config.splits
    }
    jobs = [(name, split, threat) for name in sorted(models) for split in config.splits for threat in met[split]]
    whole = {split: open_images(real, split, cache) for split in config.splits}
    sets = {split: choose(whole[split], split, config.images, config.seed) for split in config.attacked_splits()}
    sizes = [
        len(sets[split]) * len(config.attack_names()) if threat else len(whole[split]) for _, split, threat in jobs
    ]
    for number, (name, split, threat) in enumerate(jobs):
        report = partial(_progress, monitor, sum(sizes[:number]), sum(sizes))
        kind = f"{threat.norm}-{threat.eps:.6f}" if threat else NO_THREAT
        ledger = scratch / f"{name.replace('/', '-')}--{split}--{kind}.parquet"
        if not ledger.exists():
            model, _ = load_classifier(models[name], device)
            if threat is None:
                table = classify_images(model, name, whole[split], split, config, device)
            else:
                batches = ledger.with_suffix(".json")
                table = attack_images(model, name, sets[split], split, threat, config, device, batches, report)
            with replacing(ledger) as temporary:
                pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd")
        pieces.append(pq.read_table(ledger).to_pandas(maps_as_pydicts="strict"))
        report(sizes[number])
    predictions = pd.concat(pieces, ignore_index=True)
    with replacing(out / "predictions.parquet") as temporary:
        pq.write_table(pa.Table.from_pandas(predictions, preserve_index=False), temporary, compression="zstd")
    rows = accuracy_rows(predictions, config, dataset["name"])
    write_measurements(out / "measurements.parquet", rows)
    _pictures(predictions, config, models, sets, device, out)
    split = config.attacked_splits()[0]
    first = predictions[predictions["split"] == split]
    signs, survivors = probe_models(config, models, sets[split], first, scratch, device, monitor)
    write_measurements(out / "curve.parquet", curve_rows(survivors, config, dataset["name"]))
    draw_curve(survivors, config, out / "pictures" / "curve.png")
    doubts = warnings(signs)
    write_json(
        out / "honesty.json",
        {
            "warnings": doubts,
            "signs": {model: {sign.name: sign.value for sign in found} for model, found in signs.items()},
        },
    )
    return _summary(rows, config, len(doubts))


def _confidences(outcomes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return outcomes["confidence"].to_numpy(), outcomes["clean"].to_numpy(bool)


def _progress(monitor: Monitor, before: int, total: int, done: int) -> None:
    monitor.progress(before + done, total, "image")


def accuracy_rows(predictions: pd.DataFrame, config: RobustnessConfig, dataset: str) -> list[dict[str, Any]]:
    """Return measurement rows: clean accuracy (all images), accuracy after each attack, robust accuracy, and its union.

    Robust accuracy is after all attacks of a threat; the union counts images that survive those of every threat.
    """
    rows = []
    for (model, seed, split), table in predictions.groupby(["model", "seed", "split"]):
        name = f"{model}/seed-{seed}"
        one = table[table["threat"] == NO_THREAT]
        rows.append(row(name, dataset, str(split), "all", "clean accuracy", _share(one["clean"]), len(one)))
        seed_of_bootstrap = derive_seed(config.seed, "calibration", str(split))
        error = debiased_calibration_error(*_confidences(one), REPLICATES, seed_of_bootstrap)
        rows.append(row(name, dataset, str(split), "all", "calibration error", error, len(one)))
        if split not in config.attacked_splits():
            continue
        for threat in map(str, config.threats):
            mine = table[table["threat"] == threat]
            for column, metric in [(a, f"accuracy after {a} ({threat})") for a in config.attack_names()]:
                rows.append(row(name, dataset, str(split), "all", metric, _share(mine[column]), len(mine)))
            metric = f"robust accuracy ({threat})"
            rows.append(row(name, dataset, str(split), "all", metric, _share(mine["robust"]), len(mine)))
        if len(config.threats) > 1:
            union = table[table["threat"] != NO_THREAT].groupby("id")["robust"].all()
            rows.append(row(name, dataset, str(split), "all", UNION, _share(union), len(union)))
    return rows


def _share(outcomes: pd.Series) -> tuple[float, float, float]:
    return wilson(int(outcomes.sum()), len(outcomes))


def _summary(rows: Sequence[Mapping[str, Any]], config: RobustnessConfig, doubts: int) -> Summary:
    metric = f"robust accuracy ({config.threats[0]})"
    split = config.attacked_splits()[0]
    first = [r for r in rows if r["split"] == split]
    clean = {(r["model"], r["seed"]): r for r in first if r["metric"] == "clean accuracy"}
    table = [
        {
            "model": r["model"],
            "seed": r["seed"],
            "clean": f"{clean[r['model'], r['seed']]['value']:.3f}",
            "robust": f"{r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]",
        }
        for r in first
        if r["metric"] == metric
    ]
    best = max((r for r in first if r["metric"] == metric), key=lambda r: r["value"])
    figures = {"models": len(clean), "images per split": config.images, "best robust accuracy": best["value"]}
    return Summary(
        {**figures, "best model": title(best["model"], best["seed"]), "signs of masked gradients": doubts},
        {f"{split}, {config.threats[0]}": table},
    )


def _pictures(
    predictions: pd.DataFrame,
    config: RobustnessConfig,
    models: Mapping[str, Path],
    sets: Mapping[str, ImageSet],
    device: torch.device,
    out: Path,
) -> None:
    """Save accuracies and reliability by model, and images whose prediction the first attack turns, with the perturbation."""
    split, threat = config.attacked_splits()[0], config.threats[0]
    table = predictions[(predictions["split"] == split) & (predictions["threat"] == str(threat))]
    means = table.groupby("model")[["clean", *config.attack_names(), "robust"]].mean()
    names = [str(name).replace("classifier/", "") for name in means.index]
    bars(
        {c: means[c].tolist() for c in means},
        names,
        out / "pictures" / "accuracy.png",
        f"{split}, {threat}",
        "accuracy",
    )
    plain = predictions[(predictions["split"] == split) & (predictions["threat"] == NO_THREAT)]
    diagrams = {
        str(model).replace("classifier/", ""): reliability(*_confidences(part))
        for model, part in plain.groupby("model")
    }
    draw_reliability(diagrams, out / "pictures" / "reliability.png", f"{split}: reliability, seeds together")
    name = sorted(models)[0]
    turned = table[(table["model"] == split_name(name)[0]) & (table["seed"] == split_name(name)[1])]
    attack = config.attacks_in(threat.norm)[0]
    places = np.flatnonzero((turned["clean"] & ~turned[attack.name]).to_numpy())[:12]
    if not len(places):
        return
    model, _ = load_classifier(models[name], device)
    x = sets[split].batch(places).to(device)
    y = sets[split].targets(places).to(device)
    seeds = [derive_seed(config.seed, "attack", identity) for identity in sets[split].table["id"].iloc[places]]
    adversarial = run_attack(model, attack, x, y, threat, torch.tensor(seeds))
    delta = 0.5 + (adversarial - x) / (2 * (adversarial - x).abs().amax().clamp_min(1e-6))
    rows = {"image": x, "perturbation": delta, "adversarial": adversarial}
    shown = {k: (v.cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy() for k, v in rows.items()}
    labelled_rows(shown, out / "pictures" / "adversarial.png", f"{name}: turned by {attack.name}, {threat}")
