"""Baselines fitted on the real training split, and their images as shard folders."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from ops.data.loading import ImageSet, open_images
from ops.files import read_json, write_json
from ops.generate.baselines.baseline import Baseline
from ops.generate.baselines.bootstrap import fit_bootstrap
from ops.generate.baselines.cells import find_cells
from ops.generate.baselines.config import BaselinesConfig, Kind
from ops.generate.baselines.gaussian import fit_gaussian
from ops.generate.baselines.mixture import fit_mixture
from ops.generate.shards import given, write_synthetic
from ops.launching import Here
from ops.progress import Monitor
from ops.summary import Figure, Summary

FITS = {"gaussian": fit_gaussian, "mixture": fit_mixture, "bootstrap": fit_bootstrap}
NOTES = {
    "gaussian": "All images are drawn from a Gaussian fitted to the pixels of each condition's training images.",
    "mixture": "All images are drawn from a kernel density fitted to each condition's training images.",
    "bootstrap": "All images are training images of the condition, redrawn; none is new.",
}


def fit_baseline(kind: Kind, config: BaselinesConfig, images: ImageSet, dataset: Mapping[str, Any]) -> Baseline:
    """Return the baseline `kind`, fitted to training images, as a source.

    The condition is the class, or class and `config.attribute`. A class stands for its conditions that have fewer than
    `config.min_images` images; the bootstrap needs only one, since it has nothing to fit. See the module of each kind
    for its density and errors.
    """
    least = 1 if kind == "bootstrap" else config.min_images
    return FITS[kind](config, images, find_cells(images, dataset, config.attribute, least))


def write_baselines(
    config: BaselinesConfig, shards: Path, plan: Path, out: Path, scratch: Path, cache: Path, monitor: Monitor
) -> Summary:
    """Fit each baseline on the training split of `shards` and write its images as a shard folder `out/<kind>`.

    Images are those of the first rows of the plan, whose order is random. `baselines.json` says what was fitted to each
    condition. Raises AmalgamError if the plan asks for what training images do not show, before anything is fitted.
    """
    images = open_images(shards, "train", cache)
    dataset = read_json(shards / "dataset.json")
    rows = pq.read_table(plan / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    rows = rows[: config.images] if config.images else rows
    cells = find_cells(images, dataset, config.attribute, config.min_images)
    for row in rows:
        cells.of(row)
    made = {kind: fit_baseline(kind, config, images, dataset) for kind in config.kinds}
    by_class: dict[str, int] = {}
    for kind, source in made.items():
        by_class[kind] = sum(bool(config.attribute) and not source.cells.of(row)[1] for row in rows)
        if by_class[kind]:
            monitor.note(
                f"{kind}: {by_class[kind]} of {len(rows)} images are drawn by class alone, since too few training images "
                f"of the class have their {config.attribute}"
            )
        for folder in (out / kind, scratch / kind):
            folder.mkdir(exist_ok=True)
        noted = {**dataset, "notes": {**dataset["notes"], "synthetic": NOTES[kind]}}
        here = Here(torch.device("cpu"))
        write_synthetic(given(source), rows, noted, out / kind, scratch / kind, config.shard_size, here, monitor)
        if (picture := out / kind / "pictures" / "synthetic.png").exists():
            (out / "pictures").mkdir(exist_ok=True)
            shutil.copyfile(picture, out / "pictures" / f"{kind}.png")
    record = {
        kind: {
            "identity": source.identity,
            "sampler": source.sampler,
            "fits": source.fits,
            "drawn by class alone": by_class[kind],
        }
        for kind, source in made.items()
    }
    write_json(out / "baselines.json", record)
    few: list[dict[str, Figure]] = [
        {"condition": cells.describe(cell), "training images": count}
        for cell, count in cells.counts.items()
        if cell not in cells.members
    ]
    tables: dict[str, Sequence[Mapping[str, Figure]]] = {kind: source.fits for kind, source in made.items()}
    tables["too few images"] = few
    figures = {"images of each baseline": len(rows)} | {f"{kind}, by class alone": n for kind, n in by_class.items()}
    return Summary(figures, {name: lines for name, lines in tables.items() if lines})
