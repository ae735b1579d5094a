"""What the arms of `benchmarks.fairness` learn from: real shards, and synthetic ones made with and without attributes.

Both kinds of synthetic images come from one generator, the shipped one, which dropped each condition independently when it
was trained: told the class alone it is a class-conditional model, as Ktena et al. train one beside theirs. Both go through
the filter of the default profile, scored by a classifier that is none of the arms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.embedded import profile, real_shards
from benchmarks.fairness_arms import GATED, LABEL, LABEL_ATTRIBUTE, STYLES, UNFILTERED, UNGUIDED
from benchmarks.generator_training import Bar
from benchmarks.study_folders import once
from ops.files import read_json, write_json
from ops.generate.autoencoder import train_autoencoder
from ops.generate.diffusion import train_diffusion
from ops.generate.prompts import write_prompts
from ops.generate.samples import sample_prompts
from ops.generate.source import Row
from ops.generate.synthesis import generate_shards
from ops.launching import Here
from ops.runtime import pick_device
from ops.sample.config import DomainBalanced, GateConfig
from ops.sample.evidence import judge_generator
from ops.sample.filtering import filter_synthetic
from ops.sample.gate import Gate
from ops.sample.plan import plan_samples
from ops.sample.schema import ROW_SCHEMA
from ops.train.loop import train_classifier
from pipelines.params import Params
from pipelines.project import ROOT, STATE

HOME = STATE / "studies" / "fairness"
GENERATOR = ROOT / "data" / "generators" / "emoji-people"
SCORER_SEED = 100
"""Not a seed of the study: who judges the images is none of those that are compared."""
Changes = Mapping[str, Any]
JUDGED = 1000
"""Images by which the gate judges the generator."""
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


@dataclass(frozen=True)
class Making:
    """How one kind of synthetic images is made, in what it differs from the default profile."""

    plan: Changes = field(default_factory=dict)
    """Of `sampling_plan`."""
    sampler: Changes = field(default_factory=dict)
    """Of `synthetic_shards`."""
    filtering: Changes = field(default_factory=dict)
    """Of `filtered_synthetic`."""
    label_alone: bool = False
    """Plan classes as in the data, and tell the generator nothing else."""
    gated: bool = False
    """Let cells in which the generator fails repeat training images."""
    drawn_as: str = ""
    """The kind whose images are filtered; empty: its own are drawn."""


KINDS = {
    LABEL: Making(filtering={"within": ""}, label_alone=True),  # a label alone says no tone
    LABEL_ATTRIBUTE: Making(),
    UNFILTERED: Making(filtering={"rule": "all", "keep_share": 1.0, "within": ""}, drawn_as=LABEL_ATTRIBUTE),
    STYLES: Making(plan={"strategy": DomainBalanced(attributes=["tone"])}),
    UNGUIDED: Making(sampler={"guidance": 1.0}),
    GATED: Making(plan={"gate": GateConfig()}, gated=True),
}


def synthetic(shards: Path, kind: str, multiple: float) -> Path:
    """Return the filtered synthetic shards of one kind, `multiple` images for each training image."""
    return once(
        HOME / f"{kind}-{multiple:g}" / "filtered",
        lambda out, scratch: filtered(shards, kind, multiple, out, scratch),
    )


def filtered(shards: Path, kind: str, multiple: float, out: Path, scratch: Path) -> None:
    """Write to `out` the images of one kind that the filter keeps."""
    params, making = profile(), KINDS[kind]
    config = params.filtered_synthetic.model_copy(update={"keep_share": KEPT, **making.filtering})
    scorers = {"classifier/scorer": scorer(shards, params)}
    filter_synthetic(
        config, shards, drawn(shards, making.drawn_as or kind, multiple), scorers, out, scratch, STATE / "cache",
        pick_device(), Bar(f"filter {kind}"), generator(shards),
    )  # fmt: skip


def drawn(shards: Path, kind: str, multiple: float) -> Path:
    """Return the images of one kind before the filter, which keeps KEPT of them."""
    params, making, home = profile(), KINDS[kind], HOME / f"{kind}-{multiple:g}"
    plan = once(home / "plan", lambda out, _: planned(params, shards, kind, multiple / KEPT, out))
    model, config = generator(shards), params.synthetic_shards.model_copy(update=making.sampler)
    title = f"{kind} x{multiple:g}"
    return once(
        home / "drawn",
        lambda out, scratch: generate_shards(
            config, plan, model, out, scratch, Here(pick_device()), Bar(title), real=shards
        ),
    )


def gate_of(shards: Path) -> Gate:
    """Return how well the generator does in each cell of class and tone, by its answers to prompts as in the data."""
    params, cache, device = profile(), STATE / "cache", pick_device()
    config = params.evaluation_prompts.model_copy(update={"images": JUDGED})
    prompts = once(HOME / "prompts", lambda out, _: write_prompts(config, shards, out, Bar("prompts")))
    model = generator(shards)
    answers = once(
        HOME / "answers",
        lambda out, scratch: sample_prompts(
            params.generator_samples, prompts, model, out, scratch, Here(device), Bar("answers")
        ),
    )
    cells = ["label", "tone"]
    return judge_generator(GateConfig(), cells, shards, answers / "diffusion", {}, cache, device, Bar("gate"))


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
    """Write the plan of the default profile (labels as in data, attribute uniform) with the changes of `kind`."""
    making = KINDS[kind]
    config = params.sampling_plan.model_copy(update={"multiple": multiple, **making.plan})
    plan_samples(config, shards, out, Bar(f"plan {kind}"), gate=gate_of(shards) if making.gated else None)
    if making.label_alone:
        table = pq.read_table(out / "plan.parquet")
        rows = [label_alone(row) for row in table.to_pylist(maps_as_pydicts="strict")]
        pq.write_table(pa.Table.from_pylist(rows, ROW_SCHEMA), out / "plan.parquet", compression="zstd")
        dataset = read_json(out / "dataset.json")
        write_json(out / "dataset.json", {**dataset, "groups": "label", "attributes": {}})


def label_alone(row: Row) -> dict[str, Any]:
    """Return a row of a plan that tells the generator its class, and nothing of domain, attributes and caption."""
    return {**row, "caption": "", "domain": None, "attributes": dict.fromkeys(row["attributes"])}
