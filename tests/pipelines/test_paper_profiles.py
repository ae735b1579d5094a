"""The profiles of the fairness paper, each from a download in its publisher's layout to fairness and claims.

The ops are those of the assets, in their order; only sizes and steps differ from the profile.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import downloads
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner

from ops.data.curation import curate_manifest
from ops.data.expectations import check_manifest
from ops.data.manifest import build_manifest, read_manifest
from ops.data.shards import write_real_shards
from ops.data.sources import ingest_images
from ops.evaluate.fairness.measure import measure_fairness
from ops.evaluate.fairness.names import IN, OUT
from ops.evaluate.robustness import measure_robustness
from ops.files import read_json
from ops.generate.autoencoder import train_autoencoder
from ops.generate.launch import DiffusionJob, train_diffusion_in
from ops.generate.synthesis import generate_shards
from ops.launching import Here
from ops.progress import Silent
from ops.report.claims import judge_claims
from ops.sample.filtering import filter_synthetic
from ops.sample.plan import plan_samples
from ops.train.arms import require_equal_steps
from ops.train.launch import Job, train_in
from pipelines.importing import import_group
from pipelines.params import Params, resolve, validate

CPU = torch.device("cpu")
IMPORTS = {
    "camelyon17": [],
    "chestxray": [],
    "dermatology": ["--shift", "clinic_c", "--min-images", "8"],
}
GROUPS = {
    "camelyon17": ("hospital", {"test": {"0", "3", "4"}, "shift": {"1", "2"}}),
    "chestxray": ("sex", {"test": {"female", "male"}, "shift": {"female", "male"}}),
    "dermatology": ("sex", {"test": {"female", "male"}, "shift": {"female", "male"}}),
}
NETWORK = {"widths": [8, 8], "blocks": [1, 1]}
RECIPE = {
    "architecture": NETWORK,
    "schedule": {"epochs": 2, "batch": 8},
    "reviews": {"count": 1, "images": 8, "steps": 1},
}
TINY = {
    "raw_images": {"image_size": 16, "shard_size": 50},
    "curated_manifest": {"min_class_images": 2},
    "autoencoder": {"channels": [8, 8, 8], "steps": 2, "batch": 8},
    "diffusion": {
        "backbone": {"channels": [16, 16, 16], "layers": 1, "head_width": 8},
        **{"context": 16, "steps": 3, "batch": 8},
    },
    "sampling_plan": {"multiple": 1.0},
    "synthetic_shards": {"steps": 2, "batch": 32, "shard_size": 16},
    "robustness": {
        "attacks": [{"name": "pgd", "steps": 1}],
        **{"images": 4, "batch": 64, "honesty": {"images": 2, "steps": 1, "multiples": [1]}},
    },
    "fairness": {"replicates": 100, "min_count": 1},
    "claims": {"replicates": 100},
}


def merged(tree: dict, changes: dict) -> dict:
    """Return `tree` with `changes`, keys of which must be there already."""
    assert set(changes) <= set(tree) | {"honesty", "steps", "multiples"}, set(changes) - set(tree)
    return tree | {
        key: merged(tree[key], value) if isinstance(value, dict) and key in tree else value
        for key, value in changes.items()
    }


def tiny(profile: str) -> Params:
    """Return a profile with smaller sizes and fewer steps."""
    tree = merged(yaml.safe_load(resolve(profile)), TINY)
    if profile == "dermatology":  # this archive has no squamous cell carcinoma, and its user says so
        tree["fairness"]["high_risk"].remove("squamous cell carcinoma")
    for recipe in tree["classifier"]["recipes"].values():
        recipe.update(merged(recipe, RECIPE))
        recipe["augmentation"]["crop"] = 1
    for recipe in tree["ingredient"]["recipes"].values():
        recipe["architecture"] = recipe["architecture"] | NETWORK
    return validate(tree, profile)


@dataclass
class Run:
    """A profile, and what its chain of ops made."""

    profile: str
    params: Params
    home: Path

    def folder(self, name: str) -> Path:
        path = self.home / "store" / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def bring(profile: str, home: Path) -> Path:
    """Make the download, and raw data of it by the command line; return the folder."""
    source = getattr(downloads, profile)(home / "data" / "downloads" / profile)
    out = home / "data" / profile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.importing.ROOT", home)
        command = [profile, "--source", str(source), "--out", str(out), "--missing", "skip", *IMPORTS[profile]]
        done = CliRunner().invoke(import_group, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module", params=sorted(IMPORTS))
def run(request, tmp_path_factory) -> Iterator[Run]:
    """Yield a profile and what its ops make of a download; rendering figures would take longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: path.touch())
        yield carry_through(request.param, tmp_path_factory.mktemp(request.param))


def carry_through(profile: str, home: Path) -> Run:
    """Run the ops of the assets from the import to the claims, in their order."""
    raw = bring(profile, home)
    made = Run(profile, tiny(profile), home)
    params, folder, monitor = made.params, made.folder, Silent()
    scratch, cache = home / "scratch", home / "cache"
    for place in (scratch, cache):
        place.mkdir()
    assert home / params.raw_images.dataset == raw, "the profile reads what its header says to make"
    ingest_images(params.raw_images, raw, folder("raw_images"), monitor)
    build_manifest(params.manifest, folder("raw_images"), folder("manifest"), monitor)
    curate_manifest(
        params.curated_manifest, folder("manifest"), folder("raw_images"), folder("curated_manifest"), monitor
    )
    real = folder("real_shards")
    write_real_shards(params.real_shards, folder("curated_manifest"), folder("raw_images"), real, monitor)

    def train(name: str) -> Path:
        recipe, out = params.classifier.recipes[name], folder(f"classifier/{name}/seed-0")
        synthetic = folder(recipe.mix.source) if recipe.uses_synthetic else None
        places = {"out": out, "scratch": scratch / name, "cache": cache, "initial": None}
        places["scratch"].mkdir()
        train_in(
            1, Job(recipe=recipe, name=name, real=real, synthetic=synthetic, seed=0, device="cpu", **places), monitor
        )
        return out

    scorer = {f"classifier/{params.filtered_synthetic.scorer}/seed-0": train(params.filtered_synthetic.scorer)}
    (scratch / "autoencoder").mkdir()
    train_autoencoder(
        params.autoencoder, real, scorer, folder("autoencoder"), scratch / "autoencoder", cache, CPU, monitor
    )
    (scratch / "diffusion").mkdir()
    job = DiffusionJob(
        config=params.diffusion,
        shards=real,
        autoencoder=folder("autoencoder"),
        start=None,
        out=folder("diffusion"),
        scratch=scratch / "diffusion",
        cache=cache,
        device="cpu",
    )
    train_diffusion_in(1, job, monitor)
    plan_samples(params.sampling_plan, real, folder("sampling_plan"), monitor)
    (scratch / "synthetic").mkdir()
    generate_shards(
        params.synthetic_shards,
        folder("sampling_plan"),
        folder("diffusion"),
        folder("synthetic_shards"),
        scratch / "synthetic",
        Here(CPU),
        monitor,
    )
    (scratch / "filtered").mkdir()
    filter_synthetic(
        params.filtered_synthetic,
        real,
        folder("synthetic_shards"),
        scorer,
        folder("filtered_synthetic"),
        scratch / "filtered",
        cache,
        CPU,
        monitor,
    )
    claimed = sorted({model for claim in params.claims.tests for model in (claim.better, claim.than)})
    models = {f"{model}/seed-0": train(model.removeprefix("classifier/")) for model in claimed}
    (home / "ledger").mkdir()
    measure_robustness(params.robustness, models, real, folder("robustness"), home / "ledger", cache, CPU, monitor)
    measure_fairness(params.fairness, folder("robustness"), real, folder("fairness"), monitor)
    judge_claims(params.claims, folder("robustness"), folder("fairness"), folder("claims"), monitor)
    return made


def test_every_image_of_the_import_is_curated_in_its_split(run):
    table = pd.read_parquet(run.home / "data" / run.profile / "table.parquet").set_index("file")
    curated = read_manifest(run.folder("curated_manifest")).set_index("id")
    assert set(curated.index) == set(table.index)
    for column in ("split", "label", "domain", "concept"):
        assert curated[column].equals(table[column].reindex(curated.index).astype(curated[column].dtype)), column
    assert pd.read_parquet(run.folder("raw_images") / "quarantine.parquet").empty


def test_the_manifest_keeps_its_contract(run):
    outcomes = check_manifest(run.folder("curated_manifest"))
    assert [o.name for o in outcomes if not o.success and o.severity == "critical"] == []


def test_captions_are_of_the_setting(run):
    captions = read_manifest(run.folder("curated_manifest"))["caption"]
    assert not captions.str.contains("drawing").any()
    words = {"camelyon17": "tissue", "chestxray": "X-ray", "dermatology": "melanoma|nevus|basal cell carcinoma"}
    assert captions.str.contains(words[run.profile]).all()


def test_plan_and_filter_treat_groups_alike(run):
    attribute, groups = GROUPS[run.profile]
    train = read_manifest(run.folder("real_shards")).query("split == 'train'")
    plan = pd.read_parquet(run.folder("sampling_plan") / "plan.parquet")
    value = plan["attributes"].map(lambda pairs: dict(pairs)[attribute])
    counts = plan.groupby(["label", value]).size().unstack(fill_value=0)
    assert set(counts.columns) == groups["test"], "no group that training never saw"
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
    if (
        attribute == "hospital"
    ):  # what the domain says, too: no image may be of one hospital and in the style of another
        assert (plan["domain"].str.removeprefix("hospital_") == value).all()
    shares = train["label"].value_counts(normalize=True)
    assert np.allclose(counts.sum(axis=1) / len(plan), shares.reindex(counts.index), atol=1.5 / len(plan))
    filtered = read_manifest(run.folder("filtered_synthetic"))
    assert 0 < len(filtered) <= len(plan)
    assert set(filtered["source"]) == {"synthetic"}
    kept = filtered.groupby(["label", f"attribute:{attribute}"]).size()
    assert len(kept) == counts.size, "every cell of the plan has images to learn from"


def test_fairness_is_measured_in_and_out_of_distribution(run):
    attribute, groups = GROUPS[run.profile]
    predictions = pd.read_parquet(run.folder("robustness") / "predictions.parquet")
    clean = predictions[predictions["threat"] == "none"]
    rows = pd.read_parquet(run.folder("fairness") / "measurements.parquet")
    models = {claim.better for claim in run.params.claims.tests} | {claim.than for claim in run.params.claims.tests}
    for model in models:
        for split, values in groups.items():
            mine = clean[(clean["model"] == model) & (clean["split"] == split)]
            by_group = mine.groupby(mine["attributes"].map(lambda pairs: dict(pairs)[attribute]))["clean"].mean()
            assert set(by_group.index) == values
            part = {"test": IN, "shift": OUT}[split]
            found = rows[(rows["model"] == model) & (rows["split"] == part)].set_index(["metric", "group"])["value"]
            for group, accuracy in by_group.items():
                assert found["accuracy", f"{attribute}={group}"] == pytest.approx(accuracy)
            assert found["accuracy gap", attribute] == pytest.approx(by_group.max() - by_group.min())


def test_each_claim_gets_a_verdict(run):
    verdicts = read_json(run.folder("claims") / "claims.json")
    assert [v["claim"] for v in verdicts] == [claim.claim for claim in run.params.claims.tests]
    assert all(v["n"] > 0 and -1 <= v["low"] <= v["effect"] <= v["high"] <= 1 for v in verdicts)


@pytest.mark.parametrize("profile", sorted(IMPORTS))
def test_arms_of_a_profile_share_one_budget(profile):
    params = validate(yaml.safe_load(resolve(profile)), profile)
    arms = [name for name in params.classifier.recipes if name != params.filtered_synthetic.scorer]
    assert require_equal_steps(params.classifier.recipes, 100_000, arms) > 1000
    assert {params.classifier.recipes[name].loss for name in arms} == {"clean", "focal"}
    tested = {claim.better for claim in params.claims.tests} | {claim.than for claim in params.claims.tests}
    assert tested <= {f"classifier/{name}" for name in arms}
    assert json.loads(params.model_dump_json())["seeds"] == [0, 1, 2, 3, 4]
    assert "&id" not in resolve(profile), "params.yaml has no aliases"
