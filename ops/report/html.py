"""The report: one page that works without a network, claims first."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.evaluate.fairness.names import names_of, shown
from ops.evaluate.measurements import read_measurements
from ops.files import content_hash, read_json, replacing
from ops.progress import Monitor
from ops.report.comparisons import comparison_table
from ops.report.config import ReportConfig
from ops.report.fairness import fairness_section
from ops.report.generator import PICTURES as GENERATOR_PICTURES
from ops.report.generator import generator_section
from ops.report.shift import shift_tables
from ops.summary import Summary

TEMPLATES = Path(__file__).parent / "templates"
VERDICTS = {True: ("✓", "holds"), False: ("✗", "does not hold"), None: ("?", "cannot tell at this scale")}
WORST = 8
"""Pictures of worst examples on the page."""
PICTURES = (
    ("real_shards", "train", "Training images, by class."),
    (
        "curated_manifest",
        "groups",
        "How many images of each group are in each split; the imbalance in training is arranged.",
    ),
    ("autoencoder", "reconstructions", "Validation images and what the autoencoder makes of them."),
    ("sampling_plan", "plan", "The sampling plan against the training split."),
    ("synthetic_shards", "synthetic", "Synthetic images, made by the diffusion model from the plan."),
    ("filtered_synthetic", "confidence", "How sure a non-robust classifier is of the labels, by class; what was kept."),
    ("filtered_synthetic", "extremes", "The synthetic images in which it sees their label best, and least."),
    ("synthetic_report", "acceptance", "Share of the planned images that were accepted, by class and group."),
    (
        "synthetic_report",
        "complementarity",
        "Whether images are nearest to training images, to held-out ones (other concepts), or to others of their own. "
        "More real images would look like the first line.",
    ),
    ("training_study", "overfitting", "Robust accuracy along training, of averaged and live weights."),
    ("training_study", "augmentation", "Robust accuracy by augmentation."),
    ("training_study", "alpha", "Robust accuracy by share of real images in a batch."),
    ("robustness", "accuracy", "Accuracy before and after each attack, seeds averaged."),
    (
        "robustness",
        "reliability",
        "Accuracy against confidence, in bins of equal size; a calibrated model is on the line.",
    ),
    ("robustness", "curve", "Accuracy under PGD against the radius; unbounded, an attack that works leaves nothing."),
    (
        "robustness",
        "compute",
        "Robust accuracy against the forward and backward passes that all attacks together have spent on an image.",
    ),
    (
        "comparisons",
        "comparisons",
        "Differences between models, over images and seeds (thin) and over images only (thick); filled where significant.",
    ),
    ("corruptions", "accuracy", "Accuracy by corruption, severities and seeds averaged."),
    ("corruptions", "corruptions", "One image under every corruption, a column for each severity."),
    ("shift", "domains", "Accuracy by domain with 95 % intervals, seeds averaged."),
    ("shift", "label_shift", "Accuracy under other class priors, before and after adapting to them; seeds averaged."),
    ("fairness", "groups", "Accuracy by group with 95 % intervals, seeds averaged."),
    ("fairness", "utility", "Accuracy and AUROC of all images against the gap between groups, with 95 % intervals."),
    *GENERATOR_PICTURES,
)


def write_report(config: ReportConfig, inputs: Mapping[str, Path], out: Path, monitor: Monitor) -> Summary:
    """Write `report.html` from the folders of all stages, by name (`classifier/real/seed-0`).

    The page is one file: pictures are inside it. Equal inputs give equal bytes; it says no time and no path. A picture
    that a stage did not make is left out.
    """
    claims = read_json(inputs["claims"] / "claims.json")
    dataset = read_json(inputs["real_shards"] / "dataset.json")
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["group"] = lambda group: shown(group, names_of(dataset))
    environment.filters["signed"] = lambda value: f"{100 * value:+.1f}"
    page = environment.get_template("report.html.j2").render(
        title=config.title,
        dataset=dataset,
        claims=[{**claim, "verdict": VERDICTS[claim["holds"]]} for claim in claims],
        robustness=accuracy_tables(_without_single_attacks(read_measurements(inputs["robustness"]))),
        doubts=read_json(inputs["robustness"] / "honesty.json")["warnings"],
        comparisons=comparison_table(inputs),
        corruptions=corruption_tables(inputs),
        shift=shift_tables(inputs),
        generator=generator_section(inputs),
        fairness=fairness_section(inputs["fairness"], dataset),
        pictures={
            name: figure
            for name, figure in ((f"{s}/{p}", _picture(inputs, s, p, text)) for s, p, text in PICTURES)
            if figure
        },
        worst=_worst_examples(inputs),
        sweeps=[
            f for f in (_picture(inputs, name, "sweep", f"The soup's sweep, {name}.") for name in sorted(inputs)) if f
        ],
        curves=[f for f in (_picture(inputs, name, "curves", f"Training of {name}.") for name in sorted(inputs)) if f],
        curation=_curation(inputs),
        lineage=[{"name": name, "hash": content_hash(path)} for name, path in inputs.items()],
    )
    with replacing(out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    monitor.note(f"{len(claims)} claims, {len(page) // 1024} KiB")
    return Summary({"claims": len(claims), "size (KiB)": len(page) // 1024})


def _without_single_attacks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the tables; what each attack leaves is in the picture, and would make them too wide to read."""
    return rows[~rows["metric"].str.startswith("accuracy after")]


def accuracy_tables(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each split a table: model (rows, seeds averaged) by metric, with the mean interval of the seeds."""
    tables = []
    for split in dict.fromkeys(rows["split"]):
        mine = rows[rows["split"] == split]
        counts = mine.groupby("metric", sort=False)["n"].max()
        lines = [
            {"model": model, "cells": [_cell(part[part["metric"] == metric]) for metric in counts.index]}
            for model, part in mine.groupby("model")
        ]
        metrics = [{"name": metric, "n": int(n)} for metric, n in counts.items()]
        tables.append({"split": split, "metrics": metrics, "lines": lines})
    return tables


def corruption_tables(inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return for each split a table of what every model does without corruption, and of its mean errors under them.

    Empty where there is no such stage. The single corruptions are in the picture.
    """
    if "corruptions" not in inputs:
        return []
    rows = read_measurements(inputs["corruptions"])
    return accuracy_tables(rows[rows["metric"].str.startswith(("accuracy without", "mean corruption error"))])


def _cell(rows: pd.DataFrame) -> str:
    """Return `0.71 [0.66, 0.75]` from the rows of the seeds; a dash where there are none."""
    if rows.empty:
        return "–"
    value, low, high = (rows[name].mean() for name in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _picture(inputs: Mapping[str, Path], stage: str, name: str, text: str) -> dict[str, str] | None:
    path = inputs[stage] / "pictures" / f"{name}.png" if stage in inputs else None
    if path is None or not path.exists():
        return None
    return {"data": base64.b64encode(path.read_bytes()).decode(), "text": text}


def _worst_examples(inputs: Mapping[str, Path]) -> list[dict[str, str]]:
    """Return the first `WORST` pictures of worst examples by name; the others are in the artefact."""
    names = sorted(path.stem for path in (inputs["robustness"] / "pictures").glob("worst-*.png"))
    text = "Images on which a model is surest of a wrong class, with the perturbation (amplified)."
    return [figure for name in names[:WORST] if (figure := _picture(inputs, "robustness", name, text))]


def _curation(inputs: Mapping[str, Path]) -> dict[str, int]:
    """Return how many images were quarantined, removed, are in each split, were made, and passed the filter."""
    quarantined = len(pd.read_parquet(inputs["raw_images"] / "quarantine.parquet"))
    removed = len(pd.read_parquet(inputs["curated_manifest"] / "removed.parquet"))
    splits = pd.read_parquet(inputs["curated_manifest"] / "manifest.parquet", columns=["split"])["split"].value_counts()
    synthetic = pd.read_parquet(inputs["synthetic_shards"] / "manifest.parquet", columns=["split"])
    counts = {str(split): int(count) for split, count in sorted(splits.items())}
    found = {"quarantined": quarantined, "removed": removed, **counts, "synthetic": len(synthetic)}
    if "filtered_synthetic" in inputs:
        filtered = pd.read_parquet(inputs["filtered_synthetic"] / "manifest.parquet", columns=["split"])
        found["filtered synthetic"] = len(filtered)
    return found
