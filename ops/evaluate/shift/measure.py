"""What every model does on images from elsewhere: other domains, a user's sets, and other class priors.

domains.py      accuracy by domain, and what is lost against images in distribution
label_shift.py  accuracy under other class priors, and what adapting to them gains
few_shot.py     splits of the shifted domains for later stages that adapt to them
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ops.data.manifest import read_manifest
from ops.evaluate.measurements import write_measurements
from ops.evaluate.remembered import forget_others
from ops.evaluate.shift.calibrating import fit_calibration
from ops.evaluate.shift.config import ShiftConfig
from ops.evaluate.shift.domains import accuracy_rows, answers, drop_rows
from ops.evaluate.shift.few_shot import few_shot_rows, shortages, write_few_shot
from ops.evaluate.shift.label_shift import label_shift_rows, prepare, source_prior, write_priors
from ops.evaluate.shift.names import ACCURACY, GAIN_EM, WORST_DOMAIN, drop_metric, single_first
from ops.evaluate.shift.pictures import draw_domains, draw_label_shift
from ops.evaluate.shift.priors import Prior
from ops.evaluate.shift.sets import quarantined
from ops.evaluate.shift.shown import (
    Shown,
    answer_files,
    ingest_sets,
    open_calibration,
    open_shown,
    publish_sets,
    show,
    write_predictions,
)
from ops.files import read_json
from ops.progress import Monitor
from ops.summary import Summary


def measure_shift(
    config: ShiftConfig,
    models: Mapping[str, Path],
    real: Path,
    sources: Mapping[str, Path],
    out: Path,
    scratch: Path,
    ledger: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Show every model a sample of every split and set, once, and measure what follows from its probabilities.

    `sources` has the raw folder of each set; its images are kept as shards in `sets/<name>`. `few_shot.parquet` is about
    all images of the shifted splits and sets. What is in `scratch` (ingested sets) and `ledger` (probabilities, by the weights,
    the images and the batch size) is not made again: when one model changes, the others are not asked again. What of the
    ledger was not needed is forgotten at the end.

    A model that draws random numbers is asked once, without the vote that `robustness` takes: its accuracy is that of a
    single draw, and depends on the batch size.

    Raises AmalgamError for a split without images, a set that does not fit the dataset, a prior of unknown classes, a
    model of another number of classes, and logits that are no numbers.
    """
    dataset = read_json(real / "dataset.json")
    sets = ingest_sets(config, sources, real, scratch, monitor)
    shown = open_shown(config, sets, real, cache)
    few_shot, classes = _few_shot(config, sets, real)
    write_few_shot(out / "few_shot.parquet", few_shot)
    simulation = prepare(config, shown[0])
    calibration = open_calibration(config, real, cache)
    source = _source(calibration, real, dataset["classes"])
    write_priors(out / "priors.parquet", [source, *simulation.priors], dataset["classes"])
    answers = answer_files(models, [*shown, *calibration], config, ledger)
    given = show(models, [*shown, *calibration], answers, config, device, monitor)
    write_predictions(out / "predictions.parquet", given, shown)
    rows: list[dict[str, Any]] = []
    for done, (model, splits) in enumerate(given.items(), start=1):
        rows += _domain_rows(model, splits, shown, config, dataset["name"])
        posteriors = calibrated = splits[shown[0].name]
        for part in calibration:
            calibrated = fit_calibration(splits[part.name], part.labels)(posteriors)
        split = config.in_distribution
        rows += label_shift_rows(model, posteriors, calibrated, source.share, simulation, dataset["name"], split)
        monitor.progress(done, len(given), "model")
    write_measurements(out / "measurements.parquet", rows)
    publish_sets(sets, out)
    forget_others(ledger, {file for files in answers.values() for file in files.values()})
    frame = pd.DataFrame(rows)
    draw_domains(frame, [part.name for part in shown], out / "pictures" / "domains.png")
    priors = single_first([(prior.name, prior.family) for prior in simulation.priors])
    draw_label_shift(frame, priors, out / "pictures" / "label_shift.png")
    figures: dict[str, int | float | str] = {"images": sum(len(part.images) for part in shown)}
    figures |= {f"quarantined in {name}": quarantined(folder) for name, folder in sets.items()}
    return _summary(frame, config.in_distribution, priors, figures, shortages(few_shot, classes))


def _source(calibration: Sequence[Shown], real: Path, classes: Sequence[str]) -> Prior:
    """Return the class prior that posteriors stand for: that of the images they are calibrated on, or else of training."""
    for part in calibration:
        return source_prior(part.labels, classes, part.name)
    manifest = read_manifest(real)
    trained = manifest.loc[manifest["split"] == "train", "label"].map({c: n for n, c in enumerate(classes)})
    return source_prior(trained.to_numpy(np.int64), classes, "train")


def _few_shot(config: ShiftConfig, sets: Mapping[str, Path], real: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the few-shot splits of all shifted images, and the classes that are in them."""
    table = read_manifest(real)
    parts = [table[table["split"].isin(config.shifted)], *(read_manifest(folder) for folder in sets.values())]
    every = pd.concat(parts, ignore_index=True)[["id", "split", "domain", "label", "concept"]]
    return few_shot_rows(every, config.few_shot), every[["split", "domain", "label"]]


def _domain_rows(
    model: str, splits: Mapping[str, np.ndarray], shown: Sequence[Shown], config: ShiftConfig, dataset: str
) -> list[dict[str, Any]]:
    """Return the rows of one model by domain, and its losses against the split in distribution."""
    base = shown[0]
    rows: list[dict[str, Any]] = []
    for part in shown:
        found = answers(splits[part.name], part, part.candidates)
        rows += accuracy_rows(model, found, part, dataset)
        if part is not base:
            # in distribution too a prediction can only be what it can be here
            reference = answers(splits[base.name], base, part.candidates)
            rows += drop_rows(model, found, part, reference, base.name, dataset, config.replicates, config.seed)
    return rows


def _summary(
    rows: pd.DataFrame,
    against: str,
    priors: Sequence[str],
    figures: Mapping[str, int | float | str],
    short: Sequence[Mapping[str, Any]],
) -> Summary:
    """Return accuracy, worst domain and drop by model and split (seeds averaged), and classes with too few images.

    `priors` are those that the mean gain is of: each once, families as one.
    """
    tables: dict[str, Any] = {}
    for metric, group in ((ACCURACY, "all"), (WORST_DOMAIN, None), (drop_metric(against), "all")):
        mine = rows[(rows["metric"] == metric) & ((rows["group"] == group) | (group is None))]
        means = mine.groupby(["model", "split"])["value"].mean()
        tables[metric] = [
            {"model": str(model), **{str(s): float(v) for (_, s), v in part.items()}}
            for model, part in means.groupby(level="model")
        ]
    tables["classes with too few images to adapt with"] = list(short)[:20]
    worst = rows[rows["metric"] == WORST_DOMAIN].groupby("model")["value"].min()
    gains = rows[(rows["metric"] == GAIN_EM) & rows["group"].isin([f"prior={name}" for name in priors])]["value"]
    found: dict[str, int | float | str] = {
        "models": int(rows.groupby(["model", "seed"]).ngroups),
        "best worst-domain accuracy": float(worst.max()),
        "best model in its worst domain": str(worst.idxmax()),
        f"mean {GAIN_EM}": float(gains.mean()),
        "classes with too few images to adapt with": len(short),
    }
    return Summary({**found, **figures}, tables)
