"""Model cards: what every model is, what it was trained on, how it was measured, and what to mind (Mitchell et al. 2019)."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.evaluate.attack_budgets import read_attacks
from ops.evaluate.fairness.names import names_of, shown
from ops.evaluate.measurements import read_measurements, split_name
from ops.files import read_json, replacing, write_json
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.report.card_figures import Figure, caveats, headline
from ops.report.config import ModelCardConfig
from ops.summary import Summary

TEMPLATES = Path(__file__).parent / "templates"


def write_model_cards(
    config: ModelCardConfig,
    models: Mapping[str, Path],
    evaluations: Mapping[str, Path],
    sources: Mapping[str, Path],
    real: Path,
    out: Path,
    monitor: Monitor,
) -> Summary:
    """Write `<model>/README.md` and `<model>/card.json` for every model, its seeds together.

    The README is a card as the Hugging Face Hub reads it: the results are in its metadata, too. Sections are those of
    Mitchell et al. (2019), Model cards for model reporting. Equal inputs give equal bytes.

    Args:
        config: what no measurement can say: who, what for, under which licence.
        models: folders by name and seed (`classifier/real/seed-0`).
        evaluations: folders with measurements, by stage (`robustness`, `corruptions`, ...).
        sources: folders of synthetic images by stage, for models that were trained on them.
        real: the folder of real shards.
        out: where the cards go.
        monitor: is told of progress.

    Raises AmalgamError for a model that no evaluation measured, and for damaged model folders.
    """
    dataset = read_json(real / "dataset.json")
    measured = pd.concat([read_measurements(path).assign(stage=stage) for stage, path in evaluations.items()])
    signs = read_json(evaluations["robustness"] / "honesty.json")["warnings"] if "robustness" in evaluations else []
    attacks = read_attacks(evaluations["robustness"]) if "robustness" in evaluations else {}
    train = read_manifest(real)["split"].value_counts()
    data = {"real_shards": (real, int(train.get("train", 0)))}
    data |= {stage: (path, len(read_manifest(path))) for stage, path in sources.items()}
    names = sorted({split_name(name)[0] for name in models})
    folders = {
        name: {split_name(key)[1]: path for key, path in sorted(models.items()) if split_name(key)[0] == name}
        for name in names
    }
    recipes = {name: read_json(next(iter(mine.values())) / "model.json")["recipe"] for name, mine in folders.items()}
    texts, lines = {}, []
    for done, name in enumerate(names, start=1):
        mine = measured[measured["model"] == name]
        if mine.empty:
            raise AmalgamError(f"no evaluation measured {name}", "python -m pipelines run robustness")
        used = {"real_shards", *synthetic_sources(name, recipes)}
        facts = describe(folders[name], {stage: found for stage, found in data.items() if stage in used})
        figures = headline(mine)
        doubts = [sign for sign in signs if split_name(sign.partition(": ")[0])[0] == name]
        notes = caveats(figures, mine, doubts, attacks, len(dataset["classes"]))
        texts[name] = render(config, name, facts, figures, notes, dataset)
        home = out / name
        home.mkdir(parents=True)
        with replacing(home / "README.md") as temporary:
            temporary.write_text(texts[name], encoding="utf-8")
        write_json(
            home / "card.json", {"model": name, **facts, "caveats": notes, "figures": [f.record() for f in figures]}
        )
        lines.append(_line(name, facts, figures))
        monitor.progress(done, len(names), "card")
    return Summary({"cards": len(names)}, {"models": lines}, texts)


def describe(folders: Mapping[int, Path], data: Mapping[str, tuple[Path, int]]) -> dict[str, Any]:
    """Return what the model folders (by seed) and the data (folder and number of images, by stage) say of a model.

    `trained on` names stages with their images and the hash of their manifest, which has the hash of every image.
    """
    loaded = {seed: load_classifier(path, torch.device("cpu")) for seed, path in sorted(folders.items())}
    model, card = next(iter(loaded.values()))
    return {
        "architecture": {"family": card.architecture.family}
        | card.architecture.model_dump(mode="json", exclude_defaults=True),
        "parameters": sum(p.numel() for p in model.parameters()),
        "classes": card.classes,
        "input": f"{card.image_size} x {card.image_size} pixels, RGB in [0, 1]; normalisation is inside the model",
        "recipe": card.recipe,
        "threat": card.recipe.get("threat"),
        "weights": {str(seed): file_digest(path / "model.safetensors") for seed, path in sorted(folders.items())},
        "trained on": {
            stage: {"images": count, "manifest": file_digest(path / "manifest.parquet")}
            for stage, (path, count) in data.items()
        },
    }


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def synthetic_sources(name: str, recipes: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the stages whose images the model `name`, or a model that it was made from, mixed in.

    `recipes` are those of all measured models. What is not measured is the scorer, which learns from real images only.
    """
    recipe = recipes.get(name, {})
    mix = recipe.get("mix", {})
    found = {mix["source"]} if mix.get("real_fraction", 1) < 1 else set()
    start = recipe.get("initialisation", "scratch")
    parents = [f"classifier/{start}"] if start != "scratch" else []
    for parent in [*parents, *recipe.get("soup", {}).get("ingredients", [])]:
        found |= synthetic_sources(parent, recipes)
    return found


def render(
    config: ModelCardConfig,
    name: str,
    facts: Mapping[str, Any],
    figures: Sequence[Figure],
    notes: Sequence[str],
    dataset: Mapping[str, Any],
) -> str:
    """Return the text of the card."""
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Image classification",
            dataset_type=dataset["name"],
            dataset_name=dataset["name"],
            dataset_split=figure.split,
            metric_type=figure.metric,
            metric_value=round(figure.value, 4),
            metric_name=f"{figure.metric} ({figure.group})",
        )
        for figure in figures
    ]
    head = ModelCardData(
        license=config.licence, library_name="pytorch", tags=["image-classification", "robustness", "fairness"],
        model_name=name, eval_results=results,
    )  # fmt: skip
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True)
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    environment.filters["group"] = lambda group: shown(group, names_of(dataset))
    stages = {stage: [f for f in figures if f.stage == stage] for stage in dict.fromkeys(f.stage for f in figures)}
    template = environment.get_template("model_card.md.j2")
    page = template.render(
        head=head.to_yaml(), name=name, config=config, facts=facts, stages=stages, notes=notes, dataset=dataset
    )
    return page.rstrip() + "\n"


def _line(name: str, facts: Mapping[str, Any], figures: Sequence[Figure]) -> dict[str, Any]:
    """Return one row of the overview: the first figure of each stage."""
    first = {stage: next(f for f in figures if f.stage == stage) for stage in dict.fromkeys(f.stage for f in figures)}
    shown = {f"{f.metric} ({f.split})": f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in first.values()}
    return {"model": name, "parameters": facts["parameters"], "seeds": len(facts["weights"]), **shown}
