"""Accuracy of every model under other class priors, and what it gains by adapting to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval
from ops.evaluate.measurements import row
from ops.evaluate.shift.adaptation import adapt, estimate_priors
from ops.evaluate.shift.config import ShiftConfig
from ops.evaluate.shift.names import EM, ERROR, GAIN_EM, GAIN_KNOWN, KNOWN, PLAIN, SOURCE, WORST
from ops.evaluate.shift.priors import Prior, target_priors
from ops.evaluate.shift.shown import Shown
from ops.evaluate.shift.simulate import Simulation, bootstrap_sums, simulate
from ops.files import replacing
from ops.runtime import derive_seed

PRIORS = pa.schema(
    [("prior", pa.string()), ("family", pa.string()), ("label", pa.string()), ("probability", pa.float64())]
)


def prepare(config: ShiftConfig, part: Shown) -> Simulation:
    """Return the split in distribution under all class priors of `config`."""
    present = np.bincount(part.labels, minlength=len(part.images.classes))
    settings = config.label_shift
    priors = target_priors(settings, part.images.classes, present, config.seed)
    return simulate(part.labels, priors, settings.unlabelled, settings.samples, config.replicates, config.seed)


def source_prior(labels: np.ndarray, classes: Sequence[str], split: str) -> Prior:
    """Return the class prior of a split; AmalgamError for a class without images: nothing can be over 0."""
    counts = np.bincount(labels, minlength=len(classes))
    without = [name for name, count in zip(classes, counts, strict=True) if not count]
    if without:
        remedy = (
            "leave these classes out of the dataset, or name another split in shift.label_shift.calibration_split (null: the "
            "training split, uncalibrated)"
        )
        raise AmalgamError(f"the split {split} has no image of {', '.join(without)}", remedy)
    return Prior(SOURCE, SOURCE, counts / counts.sum())


def write_priors(path: Path, priors: Sequence[Prior], classes: Sequence[str]) -> None:
    """Write every class prior, one row for each class."""
    rows = [
        {"prior": prior.name, "family": prior.family, "label": label, "probability": float(share)}
        for prior in priors
        for label, share in zip(classes, prior.share, strict=True)
    ]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, PRIORS), temporary, compression="zstd")


def label_shift_rows(
    model: str,
    posteriors: np.ndarray,
    calibrated: np.ndarray,
    source: np.ndarray,
    simulation: Simulation,
    dataset: str,
    split: str,
) -> list[dict[str, Any]]:
    """Return measurement rows of one model under all priors, and of each family: its mean and its worst.

    The group is `prior=<name>`. Accuracy is that of all images of the split, weighted by target(y) / source(y); with
    estimated priors it is the mean over the samples of unlabelled images. Every replicate of the bootstrap draws images
    within their class, and takes one of the samples in turn: intervals are for other images and other samples.

    Args:
        model: its name with the seed.
        posteriors: (N, K) of the images in `simulation`, which the classifier as it is goes by.
        calibrated: (N, K), which it adapts; the same, if they are not calibrated.
        source: (K,) the prior that the latter stand for.
        simulation: the split under the priors.
        dataset: its name.
        split: its name.
    """
    measured = _measure(posteriors, calibrated, source, simulation)
    found = {prior.name: table for prior, table in zip(simulation.priors, measured, strict=True)}
    families: dict[str, list[dict[str, np.ndarray]]] = {}
    for prior, table in zip(simulation.priors, measured, strict=True):
        if prior.family != prior.name:
            families.setdefault(prior.family, []).append(table)
    for family, members in families.items():
        worst = min(members, key=lambda table: float(table[PLAIN][0]))
        found[family] = {m: np.mean([table[m] for table in members], axis=0) for m in members[0]}
        found[family][WORST] = worst[PLAIN]
    images, unlabelled = len(simulation.labels), int(simulation.unlabelled[0, 0].sum())
    return [
        row(
            model,
            dataset,
            split,
            f"prior={name}",
            metric,
            _interval(values),
            unlabelled if metric == ERROR else images,
        )
        for name, table in found.items()
        for metric, values in table.items()
    ]


def _measure(
    posteriors: np.ndarray, calibrated: np.ndarray, source: np.ndarray, simulation: Simulation
) -> list[dict[str, np.ndarray]]:
    """Return for each prior the metrics: the estimate first, then its replicates."""
    columns, estimated = [], []
    labels, samples = simulation.labels, simulation.unlabelled.shape[1]
    plain = posteriors.argmax(axis=1) == labels
    for prior, weights, counts in zip(simulation.priors, simulation.weights, simulation.unlabelled, strict=True):
        estimates = estimate_priors(calibrated, source, counts)
        told = [adapt(calibrated, source, target).argmax(axis=1) == labels for target in (prior.share, *estimates)]
        columns.append(weights[:, None] * np.stack([plain, *told], axis=1))
        estimated.append(estimates)
    values = np.concatenate(columns, axis=1)
    seed = derive_seed(simulation.seed, "label shift")
    drawn = bootstrap_sums(values, labels, simulation.replicates, seed)
    shape = (-1, len(simulation.priors), 2 + samples)
    value, drawn = values.sum(axis=0).reshape(shape), drawn.reshape(shape)
    turn = np.arange(len(drawn)) % samples
    found = []
    for place, (prior, estimates) in enumerate(zip(simulation.priors, estimated, strict=True)):
        accuracy = np.concatenate([value[:, place, 0], drawn[:, place, 0]])
        known = np.concatenate([value[:, place, 1], drawn[:, place, 1]])
        em = np.concatenate([[value[0, place, 2:].mean()], drawn[np.arange(len(drawn)), place, 2 + turn]])
        error = np.abs(estimates - prior.share).sum(axis=1) / 2
        found.append(
            {
                PLAIN: accuracy,
                EM: em,
                KNOWN: known,
                GAIN_EM: em - accuracy,
                GAIN_KNOWN: known - accuracy,
                ERROR: np.concatenate([[error.mean()], error]),
            }
        )
    return found


def _interval(values: np.ndarray) -> Interval:
    """Return the estimate, which is first, and the percentiles of the replicates after it."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return float(values[0]), min(float(low), float(values[0])), max(float(high), float(values[0]))
