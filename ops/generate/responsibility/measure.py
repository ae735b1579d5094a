"""What generators must answer for, all of it: measurement rows, copies, verdicts and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ops.data.config import CuratedManifestConfig
from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval
from ops.evaluate.measurements import row, write_measurements
from ops.files import write_json
from ops.generate.responsibility.config import ResponsibilityConfig
from ops.generate.responsibility.copies import Sample, draw_closest, sample_of, write_copies
from ops.generate.responsibility.memorisation import (
    Measures,
    Verdict,
    learn_honest,
    measure_memorisation,
    memorisation_gate,
    pick_reference,
)
from ops.generate.responsibility.representation import Perceived, Representation, measure_representation
from ops.generate.responsibility.safety import SafetyJudge, withheld, withheld_shares
from ops.progress import Monitor
from ops.summary import Summary

TRAIN, NEUTRAL, RECONSTRUCTED = "train", "neutral", "reconstructed"
Features = Mapping[str, Mapping[str, np.ndarray]]
"""(N, D) float32 by space, then by set: `train`, held-out splits, sources; `reconstructed/train` and so on."""


@dataclass
class Responsibility:
    """What was found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """In the form of `ops.evaluate.measurements`; `split` is the held-out split compared with, or `neutral`."""
    copies: list[pd.DataFrame] = field(default_factory=list)
    """With the columns of `COPIES_SCHEMA`."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """Of the memorisation gate, by source."""
    measures: dict[tuple[str, str], Measures] = field(default_factory=dict)
    """Of memorisation, by source and space."""


def measure_responsibility(
    config: ResponsibilityConfig,
    filters: CuratedManifestConfig,
    train: ImageSet,
    held_out: Mapping[str, ImageSet],
    sources: Mapping[str, ImageSet],
    features: Features,
    perceived: Mapping[str, Mapping[str, Perceived]],
    dataset: str,
    judge: SafetyJudge | None,
    device: torch.device,
    monitor: Monitor,
    reconstructed: Mapping[str, ImageSet] | None = None,
) -> Responsibility:
    """Return what is found of each source of generated images.

    Args:
        config: what to measure, and the limits of the gate.
        filters: limits of contrast and entropy, as in the curation of real images.
        train: the images that the generators learnt from.
        held_out: real images that they did not see, by split.
        sources: generated images by name; the name becomes the `model` of the rows.
        features: of all these sets, in one space or several; a source fails the gate if it fails in any.
        perceived: what a judge sees in the images of neutral prompts, by source and axis; may be empty.
        dataset: its name.
        judge: a safety classifier, or None.
        device: it runs on.
        monitor: is told of progress.
        reconstructed: `train` and the held-out splits after the autoencoder of the generator, if it has one; copies are
            sought among these as well.

    Raises:
        AmalgamError: features are missing or no numbers, or there is nothing to compare with.
    """
    split = pick_reference(config.memorisation, list(held_out))
    again = [f"{RECONSTRUCTED}/{name}" for name in (TRAIN, split)] if reconstructed else []
    _check(features, [TRAIN, split, *again, *sources])
    found = Responsibility()
    total, done = len(sources) * len(features) + len(sources), 0
    reasons: dict[str, list[str]] = {name: [] for name in sources}
    for space, arrays in features.items():
        honest = learn_honest(
            config.memorisation,
            sample_of(train, arrays[TRAIN], TRAIN),
            sample_of(held_out[split], arrays[split], split),
            split,
            _reconstructed(reconstructed, arrays, split),
        )
        for name, images in sources.items():
            measures = measure_memorisation(config.memorisation, honest, sample_of(images, arrays[name], name))
            found.measures[name, space] = measures
            found.rows += memorisation_rows(name, dataset, split, space, measures)
            found.copies.append(measures.listed.assign(source=name, space=space))
            verdict = memorisation_gate(config.memorisation, measures)
            reasons[name] += [f"{reason}, by features of {space}" for reason in verdict.reasons]
            done += 1
            monitor.progress(done, total, "source")
    found.verdicts = {name: Verdict(not why, tuple(why)) for name, why in reasons.items()}
    for name, images in {f"real/{split}": held_out[split], **sources}.items():
        shares = withheld_shares(withheld(config.safety, filters, images, judge, device), judge is not None)
        found.rows += [
            row(name, dataset, split, f"reason={reason}", "withheld", interval, len(images))
            for reason, interval in shares.items()
        ]
    for name in sources:
        for axis, seen in perceived.get(name, {}).items():
            measured = measure_representation(config.representation, axis, seen)
            found.rows += representation_rows(name, dataset, axis, measured)
        done += 1
        monitor.progress(done, total, "source")
    return found


def memorisation_rows(model: str, dataset: str, split: str, space: str, measures: Measures) -> list[dict[str, Any]]:
    """Return the rows of one source in one space of features, each measure beside that of the held-out images."""
    shares: dict[str, Interval] = {
        "exact copies": measures.exact,
        f"copies ({space})": measures.copies,
        f"copies, held-out ({space})": measures.copies_held_out,
        f"nearer to training images ({space})": measures.closer,
        f"nearer to training images, held-out ({space})": measures.closer_held_out,
        f"distance to training over held-out images ({space})": measures.ratio,
        f"authentic ({space})": measures.authentic,
        f"authentic, held-out ({space})": measures.authentic_held_out,
    }
    if measures.reconstructed is not None and measures.reconstructed_held_out is not None:
        shares[f"copies of reconstructions ({space})"] = measures.reconstructed
        shares[f"copies of reconstructions, held-out ({space})"] = measures.reconstructed_held_out
    rows = [row(model, dataset, split, "all", name, value, measures.images) for name, value in shares.items()]
    if measures.cells is not None:
        worst = (measures.cells.worst,) * 3
        rows.append(row(model, dataset, split, "all", f"C_T ({space})", measures.cells.c_t, measures.cells.images))
        rows.append(row(model, dataset, split, "all", f"C_T, worst cell ({space})", worst, measures.cells.images))
    return rows


def representation_rows(model: str, dataset: str, axis: str, found: Representation) -> list[dict[str, Any]]:
    """Return the rows of one axis; the split is `neutral`."""
    rows = []
    for number, category in enumerate(found.categories):
        exact = (found.data[number],) * 3
        for metric, interval in (
            ("share perceived", found.perceived[number]),
            ("share corrected", found.corrected[number]),
            ("share in the data", exact),
        ):
            rows.append(row(model, dataset, NEUTRAL, f"{axis}={category}", metric, interval, found.images))
    for name, interval in found.distances.items():
        metric = f"total variation, {name} ({axis})"
        rows.append(row(model, dataset, NEUTRAL, "all", metric, interval, found.images))
    if not np.isnan(found.homogeneous[0]):
        chance = (found.homogeneous_by_chance,) * 3
        rows.append(
            row(model, dataset, NEUTRAL, "all", f"homogeneous prompts ({axis})", found.homogeneous, found.prompts)
        )
        rows.append(row(model, dataset, NEUTRAL, "all", f"homogeneous by chance ({axis})", chance, found.prompts))
    return rows


def write_responsibility(
    config: ResponsibilityConfig,
    found: Responsibility,
    train: ImageSet,
    sources: Mapping[str, ImageSet],
    out: Path,
    reconstructed: ImageSet | None = None,
) -> Summary:
    """Write `measurements.parquet`, `copies.parquet`, `verdicts.json` and pictures of the closest pairs.

    `reconstructed` are the training images after the autoencoder, where copies were sought among them.
    """
    write_measurements(out / "measurements.parquet", _once(found.rows))
    write_copies(out / "copies.parquet", found.copies)
    verdicts = {name: {"passed": v.passed, "reasons": list(v.reasons)} for name, v in found.verdicts.items()}
    write_json(out / "verdicts.json", verdicts)
    for (name, space), measures in found.measures.items():
        path = out / "pictures" / f"closest-{name.replace('/', '-')}-{space}.png"
        near, again, count = measures.found.near, measures.found.reconstructed, config.memorisation.panel
        draw_closest(sources[name].images, train.images, near, count, path)
        if reconstructed is not None and again is not None:
            path = path.with_stem(f"{path.stem}-{RECONSTRUCTED}")
            draw_closest(sources[name].images, reconstructed.images, again, count, path)
    lines = [
        {"source": name, "passed": "yes" if v.passed else "no", "why not": "; ".join(v.reasons)}
        for name, v in found.verdicts.items()
    ]
    copies = sum(int(each["confirmed"].sum()) for each in found.copies)
    passed = sum(v.passed for v in found.verdicts.values())
    return Summary({"sources": len(verdicts), "passed": passed, "copies": copies}, {"memorisation": lines})


def _reconstructed(
    sets: Mapping[str, ImageSet] | None, arrays: Mapping[str, np.ndarray], split: str
) -> tuple[Sample, Sample] | None:
    """Return training and held-out images after the autoencoder; None without one."""
    if not sets:
        return None
    names = {name: f"{RECONSTRUCTED}/{name}" for name in (TRAIN, split)}
    train, held_out = (sample_of(sets[name], arrays[key], key) for name, key in names.items())
    return train, held_out


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without repetitions: pixels are the same in every space of features."""
    seen = {(r["model"], r["split"], r["group"], r["metric"]): r for r in rows}
    return list(seen.values())


def _check(features: Features, wanted: Sequence[str]) -> None:
    if not features:
        raise AmalgamError("there are no features to compare images by", "pass those of one space at least")
    for space, arrays in features.items():
        if missing := [name for name in wanted if name not in arrays]:
            raise AmalgamError(f"the space {space} lacks features of {', '.join(missing)}", "compute them for all sets")
