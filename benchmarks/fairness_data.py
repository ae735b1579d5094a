"""What the arms of `benchmarks.fairness` learn from: real shards, and synthetic ones made with and without attributes.

Both kinds of synthetic images come from one generator, the shipped one, which dropped each condition independently when it
was trained: told the class alone it is a class-conditional model, as Ktena et al. train one beside theirs. Both go through
the filter of the default profile, scored by a classifier that is none of the arms.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.embedded import profile, real_shards
from benchmarks.fairness_arms import LABEL, LABEL_ATTRIBUTE
from benchmarks.generator_training import Bar, once
from ops.data.manifest import read_manifest
from ops.files import read_json, write_json
from ops.generate.autoencoder import train_autoencoder
from ops.generate.diffusion import train_diffusion
from ops.generate.source import Row
from ops.generate.synthesis import generate_shards
from ops.launching import Here
from ops.runtime import pick_device
from ops.sample.filtering import filter_synthetic
from ops.sample.plan import plan_samples
from ops.sample.schema import ROW_SCHEMA
from ops.train.loop import train_classifier
from pipelines.params import Params
from pipelines.project import ROOT, STATE

HOME = STATE / "studies" / "fairness"
GENERATOR = ROOT / "data" / "generators" / "emoji-people"
SCORER_SEED = 100
"""Not a seed of the study: who judges the images is none of those that are compared."""
KEPT = 0.5
"""Share of the planned images that the filter keeps, as in the default profile."""


def real() -> Path:
    """Return the shards of the embedded dataset."""
    return real_shards(profile(), HOME / "data")


def generator(shards: Path) -> Path:
    """Return the shipped generator as the stage `diffusion` gives it; raises AmalgamError if it learnt other images."""
    params, device, cache = profile(), pick_device(), STATE / "cache"
    autoencoder = once(
        HOME / "autoencoder",
        lambda out, scratch: train_autoencoder(
            params.autoencoder.model_copy(update={"finetune_steps": 0, "perceptual_weight": 0.0}), shards, {}, out, scratch,
            cache, device, Bar("autoencoder"), GENERATOR / "autoencoder",
        ),
    )  # fmt: skip
    return once(
        HOME / "diffusion",
        lambda out, scratch: train_diffusion(
            params.diffusion.model_copy(update={"finetune_steps": 0}), shards, autoencoder, out, scratch, cache, device,
            Bar("diffusion"), GENERATOR / "diffusion",
        ),
    )  # fmt: skip


def synthetic(shards: Path, kind: str, multiple: float) -> Path:
    """Return the filtered synthetic shards of one kind, `multiple` images for each training image."""
    params, device, cache = profile(), pick_device(), STATE / "cache"
    model = generator(shards)
    home = HOME / f"{kind}-{multiple:g}"
    plan = once(home / "plan", lambda out, _: planned(params, shards, kind, multiple / KEPT, out))
    drawn = once(
        home / "drawn",
        lambda out, scratch: generate_shards(
            params.synthetic_shards, plan, model, out, scratch, Here(device), Bar(f"{kind} x{multiple:g}")
        ),
    )
    judge = scorer(shards, params)
    within = params.filtered_synthetic.within if kind == LABEL_ATTRIBUTE else ""  # a label alone says no tone
    config = params.filtered_synthetic.model_copy(update={"keep_share": KEPT, "within": within})
    return once(
        home / "filtered",
        lambda out, scratch: filter_synthetic(
            config,
            shards,
            drawn,
            {"classifier/scorer": judge},
            out,
            scratch,
            cache,
            device,
            Bar(f"filter {kind}"),
            model,
        ),
    )


def scorer(shards: Path, params: Params) -> Path:
    """Return a model folder of the default profile's scorer, with a seed of its own."""
    name = params.filtered_synthetic.scorer
    return once(
        HOME / "scorer",
        lambda out, scratch: train_classifier(
            params.classifier.recipes[name], name, shards, None, None, SCORER_SEED, out, scratch, STATE / "cache",
            pick_device(), Bar("scorer"),
        ),
    )  # fmt: skip


def planned(params: Params, shards: Path, kind: str, multiple: float, out: Path) -> None:
    """Write the plan of the default profile (labels as in data, attribute uniform), or one that names classes alone."""
    config = params.sampling_plan.model_copy(update={"multiple": multiple})
    plan_samples(config, shards, out, Bar(f"plan {kind}"))
    if kind == LABEL:
        table = pq.read_table(out / "plan.parquet")
        rows = [label_alone(row) for row in table.to_pylist(maps_as_pydicts="strict")]
        pq.write_table(pa.Table.from_pylist(rows, ROW_SCHEMA), out / "plan.parquet", compression="zstd")
        dataset = read_json(out / "dataset.json")
        write_json(out / "dataset.json", {**dataset, "groups": "label", "attributes": {}})


def label_alone(row: Row) -> dict[str, Any]:
    """Return a row of a plan that tells the generator its class, and nothing of domain, attributes and caption."""
    return {**row, "caption": "", "domain": None, "attributes": dict.fromkeys(row["attributes"])}


def training_images(shards: Path) -> int:
    """Return how many training images there are."""
    return int((read_manifest(shards)["split"] == "train").sum())
