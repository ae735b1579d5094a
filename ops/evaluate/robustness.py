"""Clean and robust accuracy, with the outcome of every single image."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ops.attack.threat import Threat
from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.evaluate.attack_budgets import write_attacks
from ops.evaluate.calibration import debiased_calibration_error
from ops.evaluate.compute import write_compute
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.honesty import warnings
from ops.evaluate.intervals import Interval, bootstrap, wilson
from ops.evaluate.ledger import Ledger, model_ledgers
from ops.evaluate.measurements import NO_THREAT, UNION, row, title, write_measurements
from ops.evaluate.outcomes import attack_images, classify_images
from ops.evaluate.predicting import ask, check_mode, choose
from ops.evaluate.probabilities import FILE as PROBABILITIES
from ops.evaluate.probabilities import join_probabilities, write_probabilities
from ops.evaluate.probing import curve_rows, draw_curve, probe_models
from ops.evaluate.remembered import forget_others
from ops.evaluate.robustness_pictures import draw_accuracies, draw_calibration
from ops.evaluate.temperature import fit_temperature
from ops.evaluate.worst_examples import store_worst_examples
from ops.files import read_json, replacing, write_json
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary

CALIBRATION = {
    "calibration error": "confidence",
    "calibration error (temperature scaled)": "scaled_confidence",
}
"""Metric by the column of the predictions that it judges."""
REPLICATES = 500
"""Of the bootstrap behind the intervals of the calibration error and of single draws."""


def measure_robustness(
    config: RobustnessConfig,
    models: Mapping[str, Path],
    real: Path,
    out: Path,
    ledger: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Classify every image of every split with every model, and attack a sample of those that are to be attacked.

    An example counts as robust if it is classified correctly and survives all attacks; attacks after the first meet only
    examples that still stand. `predictions.parquet` holds one row for each model, image and threat, so that nothing is
    ever attacked twice; `probabilities.parquet` has what the models say of every class, for images as they are, those of
    the temperature split included. `honesty.json` says which models show signs of masked gradients, `curve.parquet` how
    accuracy falls with eps, `compute.parquet` how it falls with the passes that attacks spend, `worst_examples.parquet` on
    which images models are surest of a wrong class.

    Outcomes are kept in `ledger`, by model, images, threat and the settings on which they depend (`ops.evaluate.ledger`):
    after a kill it goes on there, and what a change does not concern is not attacked again. `ledger` must be of just this
    code; what these settings do not need is removed from it at the end.

    Raises AmalgamError for a dataset with a single class, for logits that are no numbers, for perturbations outside the
    threat model, and for stored images that a model sees otherwise than those in memory.
    """
    dataset = read_json(real / "dataset.json")
    if len(dataset["classes"]) < 2:
        raise AmalgamError(
            f"{dataset['name']} has a single class, of which no attack can make another",
            "evaluate on a dataset with two or more classes",
        )
    pieces: list[pd.DataFrame] = []
    met: dict[str, list[Threat | None]] = {
        split: [None, *(config.threats if split in config.attacked_splits() else [])] for split in config.splits
    }
    jobs = [(name, split, threat) for name in sorted(models) for split in config.splits for threat in met[split]]
    whole = {split: open_images(real, split, cache) for split in config.splits}
    sets = {split: choose(whole[split], split, config.images, config.seed) for split in config.attacked_splits()}
    ledgers = {name: Ledger(folder, config) for name, folder in model_ledgers(ledger, models, real).items()}
    temperatures = _temperatures(config, models, open_images(real, config.temperature_split, cache), ledgers, device)
    sizes = [
        len(sets[split]) * len(config.attack_names()) if threat else len(whole[split]) for _, split, threat in jobs
    ]
    before = accumulate(sizes, initial=0)
    for size, done, (name, split, threat) in zip(sizes, before, jobs, strict=False):
        report = partial(_progress, monitor, done, sum(sizes))
        finished = ledgers[name].outcomes(split, threat)
        if not finished.exists():
            model, _ = load_classifier(models[name], device)
            if threat is None:
                table, said = classify_images(model, name, whole[split], split, config, device, temperatures[name])
                _keep(ledgers[name].probabilities(split), name, split, whole[split], said)
            else:
                batches = finished.with_suffix(".json")
                table = attack_images(model, name, sets[split], split, threat, config, device, batches, report)
            with replacing(finished) as temporary:
                pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd")
        pieces.append(pq.read_table(finished).to_pandas(maps_as_pydicts="strict"))
        report(size)
    predictions = pd.concat(pieces, ignore_index=True)
    with replacing(out / "predictions.parquet") as temporary:
        pq.write_table(pa.Table.from_pandas(predictions, preserve_index=False), temporary, compression="zstd")
    asked = dict.fromkeys([*config.splits, config.temperature_split])
    join_probabilities([ledgers[n].probabilities(s) for n in sorted(models) for s in asked], out / PROBABILITIES)
    rows = accuracy_rows(predictions, config, dataset["name"])
    write_measurements(out / "measurements.parquet", rows)
    write_json(out / "temperatures.json", temperatures)
    write_attacks(out, config)
    write_compute(out, predictions, config, dataset["name"])
    draw_accuracies(predictions, config, out / "pictures" / "accuracy.png")
    draw_calibration(predictions, config, out / "pictures" / "reliability.png")
    worst = store_worst_examples(config, models, sets, predictions, out, device, monitor)
    split = config.attacked_splits()[0]
    first = predictions[predictions["split"] == split]
    probed = {name: mine.probed() for name, mine in ledgers.items()}
    signs, survivors = probe_models(config, models, sets[split], first, probed, device, monitor)
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
    forget_others(ledger, [place for mine in ledgers.values() for place in mine.used()])
    return _summary(rows, config, len(doubts), worst)


def _temperatures(
    config: RobustnessConfig,
    models: Mapping[str, Path],
    images: ImageSet,
    ledgers: Mapping[str, Ledger],
    device: torch.device,
) -> dict[str, float]:
    """Return the temperature of every model, from all of `images`, which it was not trained on; keep what it says of them."""
    found: dict[str, float] = {}
    for name in sorted(models):
        finished = ledgers[name].temperature()
        if not finished.exists():
            model, _ = load_classifier(models[name], device)
            check_mode(model, name)
            answers = ask(model, name, images, config.batch, device, config.passes(), config.seed)
            split, said = config.temperature_split, answers.log_probabilities
            _keep(ledgers[name].probabilities(split), name, split, images, said)
            write_json(finished, fit_temperature(answers.log_probabilities, images.labels))
        found[name] = read_json(finished)
    return found


def _keep(path: Path, name: str, split: str, images: ImageSet, log_probabilities: np.ndarray) -> None:
    """Keep what a model says of a split; to be called before the file is written that says that all of it is known."""
    labels = np.array(images.classes, object)[images.labels]
    write_probabilities(path, name, split, images.table["id"], labels, log_probabilities)


def _confidences(outcomes: pd.DataFrame, column: str = "confidence") -> tuple[np.ndarray, np.ndarray]:
    return outcomes[column].to_numpy(), outcomes["clean"].to_numpy(bool)


def _progress(monitor: Monitor, before: int, total: int, done: int) -> None:
    monitor.progress(before + done, total, "image")


def accuracy_rows(predictions: pd.DataFrame, config: RobustnessConfig, dataset: str) -> list[dict[str, Any]]:
    """Return measurement rows: clean accuracy (all images), accuracy after each attack, robust accuracy, and its union.

    Robust accuracy is after all attacks of a threat; the union counts images that survive those of every threat. Where
    images are classified in several passes, rows `... of a single draw` say how many of the passes were right on average,
    with bootstrap intervals over images.
    """
    rows = []
    for (model, seed, split), table in predictions.groupby(["model", "seed", "split"], sort=False):
        name = f"{model}/seed-{seed}"
        one = table[table["threat"] == NO_THREAT]
        rows.append(row(name, dataset, str(split), "all", "clean accuracy", _share(one["clean"]), len(one)))
        seed_of_bootstrap = derive_seed(config.seed, "calibration", str(split))
        if config.passes() > 1:
            share = _single_draw(one["share_right"], config.seed)
            rows.append(row(name, dataset, str(split), "all", "clean accuracy of a single draw", share, len(one)))
        for metric, column in CALIBRATION.items():
            error = debiased_calibration_error(*_confidences(one, column), REPLICATES, seed_of_bootstrap)
            rows.append(row(name, dataset, str(split), "all", metric, error, len(one)))
        if split not in config.attacked_splits():
            continue
        for threat in map(str, config.threats):
            mine = table[table["threat"] == threat]
            for column, metric in [(a, f"accuracy after {a} ({threat})") for a in config.attack_names()]:
                rows.append(row(name, dataset, str(split), "all", metric, _share(mine[column]), len(mine)))
            metric = f"robust accuracy ({threat})"
            rows.append(row(name, dataset, str(split), "all", metric, _share(mine["robust"]), len(mine)))
            if config.passes() > 1:
                metric, share = (
                    f"robust accuracy of a single draw ({threat})",
                    _single_draw(mine["share_right"], config.seed),
                )
                rows.append(row(name, dataset, str(split), "all", metric, share, len(mine)))
        if len(config.threats) > 1:
            union = table[table["threat"] != NO_THREAT].groupby("id")["robust"].all()
            rows.append(row(name, dataset, str(split), "all", UNION, _share(union), len(union)))
    return rows


def _share(outcomes: pd.Series) -> tuple[float, float, float]:
    return wilson(int(outcomes.sum()), len(outcomes))


def _single_draw(shares: pd.Series, seed: int) -> Interval:
    values = shares.to_numpy()
    return bootstrap(lambda r: r.mean(axis=1), values, np.zeros(len(values)), REPLICATES, derive_seed(seed, "draws"))


def _summary(rows: Sequence[Mapping[str, Any]], config: RobustnessConfig, doubts: int, worst: pd.DataFrame) -> Summary:
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
    if len(worst):
        figures["worst examples that fool in 8 bits"] = float((worst["predicted_8bit"] != worst["label"]).mean())
    return Summary(
        {**figures, "best model": title(best["model"], best["seed"]), "signs of masked gradients": doubts},
        {f"{split}, {config.threats[0]}": table},
    )
