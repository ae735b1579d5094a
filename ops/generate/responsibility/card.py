"""Generator cards: the fields of the Imagen 3 model card, filled from artefacts and measurements.

Sections are those of Mitchell et al. (2019) as the card in the Imagen 3 report uses them: description, inputs and outputs;
training data and its processing; hardware and software; evaluation; benefits, risks and mitigations; safety evaluations.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.data.manifest import read_manifest
from ops.data.marked import FIELD
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.generate.responsibility.config import GeneratorCardConfig
from ops.generate.responsibility.memorisation import Verdict
from ops.report.cards import TEMPLATES, file_digest
from ops.summary import Summary

SOFTWARE = ("torch", "diffusers", "transformers", "numpy", "pillow")
RESPONSIBILITY = "responsibility"
"""The stage whose measurements are the safety evaluations; those of all others are the evaluation results."""


def write_generator_card(
    config: GeneratorCardConfig,
    name: str,
    description: str,
    inputs: str,
    shards: Path,
    real: Path,
    curated: Path,
    measurements: pd.DataFrame,
    verdict: Verdict,
    out: Path,
) -> Summary:
    """Write `README.md`, a card as the Hugging Face Hub reads it, and `card.json`, the same as data; equal is equal bytes.

    Args:
        config: what no measurement can say.
        name: of the generator, as in the column `model` of the measurements.
        description: what it is, in a sentence or two.
        inputs: what it is told, such as `caption, class, tone; each may be left out`.
        shards: a folder of its images, exported or not; their provenance says what made them.
        real: the shards that it was trained on.
        curated: the curated manifest, which lists what was removed before training.
        measurements: rows in the form of `ops.evaluate.measurements`, with the `stage` that measured them.
        verdict: of the memorisation gate.
        out: an empty folder.

    Raises AmalgamError if nothing was measured of the generator.
    """
    mine = measurements[measurements["model"] == name]
    if mine.empty:
        raise AmalgamError(f"nothing was measured of {name}", "measure its quality and responsibility first")
    facts = generator_facts(name, description, inputs, shards, real, curated)
    facts |= {"memorisation": {"passed": verdict.passed, "reasons": list(verdict.reasons)}}
    facts |= {"measurements": json.loads(mine.drop(columns="model").to_json(orient="records", double_precision=10))}
    text = render_generator_card(config, facts)
    with replacing(out / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(out / "card.json", facts)
    figures = {"measurements": len(mine), "passed": "yes" if verdict.passed else "no"}
    return Summary(figures, {}, {name: text})


def generator_facts(
    name: str, description: str, inputs: str, shards: Path, real: Path, curated: Path
) -> dict[str, Any]:
    """Return what the artefacts say, as plain data."""
    dataset, made = read_json(real / "dataset.json"), read_json(shards / "dataset.json")
    train = read_manifest(real)
    table = read_manifest(shards)
    removed = pq.read_table(curated / "removed.parquet").to_pandas()
    kinds = removed.loc[removed["split"] == "train", "reason"].str.replace(r" of .*", "", regex=True).value_counts()
    return {
        "name": name,
        "description": description,
        "inputs": inputs,
        "outputs": f"{made['image_size']} x {made['image_size']} pixels, RGB, 8 bits",
        "classes": dataset["classes"],
        "dataset": {key: dataset[key] for key in ("name", "licence", "notes")},
        "training images": int((train["split"] == "train").sum()),
        "training manifest": file_digest(real / "manifest.parquet"),
        "removed before training": {str(reason): int(count) for reason, count in kinds.sort_index().items()},
        "down-weighted near-duplicates": int((train.loc[train["split"] == "train", "weight"] < 1).sum()),
        "images": {"count": len(table), "manifest": file_digest(shards / "manifest.parquet")},
        "made by": _makers(table["provenance"]),
        "watermark": made.get(FIELD, {}).get("key"),
        "software": {"python": platform.python_version(), **{package: version(package) for package in SOFTWARE}},
    }


def render_generator_card(config: GeneratorCardConfig, facts: Mapping[str, Any]) -> str:
    """Return the text of the card from facts with their measurements and verdict."""
    rows = facts["measurements"]
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type=r["dataset"],
            dataset_name=r["dataset"],
            dataset_split=r["split"],
            metric_type=r["metric"],
            metric_value=round(r["value"], 4),
        )
        for r in rows
        if r["group"] == "all" and r["stage"] != RESPONSIBILITY
    ]
    head = ModelCardData(
        license=config.licence, library_name="diffusers", pipeline_tag="text-to-image", model_name=facts["name"],
        eval_results=results,
    )  # fmt: skip
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True)
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    page = environment.get_template("generator_card.md.j2").render(
        head=head.to_yaml(),
        config=config,
        facts=facts,
        evaluations=[r for r in rows if r["stage"] != RESPONSIBILITY],
        answers=[r for r in rows if r["stage"] == RESPONSIBILITY],
    )
    return page.rstrip() + "\n"


def _makers(provenance: pd.Series) -> list[str]:
    """Return the distinct generators and samplers, without what differs from image to image, as JSON."""
    kept = ("generator", "sampler", "fitted to", "scorer")
    found = {
        json.dumps({k: v for k, v in json.loads(p or "{}").items() if k in kept}, sort_keys=True) for p in provenance
    }
    return sorted(found - {"{}"})
