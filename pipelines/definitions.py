"""Everything Dagster loads: assets, resources, jobs, schedules, sensors."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import dagster as dg

from assets import classifiers, curation, evaluation, external, generation, judging, raw, reports, soups, synthetic
from pipelines.executors import executor
from pipelines.lineage import Stage, code_version, sources_of, stages
from pipelines.params import Params, read_tree, section, validate
from pipelines.partitions import seed_partitions
from pipelines.project import ROOT
from pipelines.resources import Store, Tracking
from pipelines.schedules import schedules
from pipelines.sensors import REFRESH, sensors
from pipelines.steps import StepRunner


@dataclass(frozen=True)
class Project:
    """The parameters and the graph they make, read once in a process."""

    params: Params
    tree: dict[str, Any]
    definitions: dg.Definitions
    stages: tuple[Stage, ...]

    def stage(self, asset: dg.AssetKey, partition: str | None) -> Stage:
        """Return one stage."""
        return next(s for s in self.stages if s.asset == asset and s.partition == partition)


def lineage_assets(params: Params) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return the assets of the whole lineage, in the order the data flows."""
    seeds = seed_partitions(params.seeds)
    recipes = [*params.classifier.recipes.values(), *params.ingredient.recipes.values()]
    trained = [
        *classifiers.classifier_assets("classifier", params.classifier.recipes, seeds, group="classifiers"),
        *classifiers.classifier_assets("ingredient", params.ingredient.recipes, seeds, group="soups"),
    ]
    mixed_in = sorted({recipe.mix.source for recipe in recipes if recipe.uses_synthetic})
    soup = soups.soup_asset(params.soup.ingredients, seeds)
    scorer, published, plan = params.filtered_synthetic.scorer, params.corruptions.published, params.sampling_plan
    cascade = params.upsampler is not None
    learnt = generation.SMALL if cascade else "real_shards"
    baselines: list[str] = list(params.baseline_samples.kinds)
    # the scorer is a tool and no candidate: that it breaks under attack is known, and costs time to measure
    compared = [model.key for model in trained if model.key != dg.AssetKey(["classifier", scorer])]
    elsewhere = external.external_assets(params.external.models)
    models = [*compared, *(model.key for model in elsewhere), soup.key]
    uses = [
        *((source, raw.SHARDS) for source in mixed_in if "/" in source),
        *([(published, raw.CORRUPTIONS)] if published else []),
        *((model.folder, raw.MODEL) for model in params.external.models.values()),
        *((folder, raw.IMAGES) for folder in params.shift.sets.values()),
        *((folder, raw.GENERATOR) for folder in [params.autoencoder.start, params.diffusion.start] if folder),
        *((folder, raw.ENCODER) for folder in [params.diffusion.encoder] if "/" in folder),
        *((folder, raw.ENCODER) for folder in params.generator_report.encoders.values()),
        *((folder, raw.MODEL) for folder in [params.responsibility.safety.unsafe_model] if folder),
        *((folder, raw.VOTES) for folder in [params.preference.votes] if folder),
        *((folder, raw.TARGETS) for folder in plan.folders),
    ]
    measured = [
        evaluation.robustness_asset(models),
        evaluation.corruptions_asset(models, published),
        evaluation.shift_asset(models, params.shift.sets),
        evaluation.fairness,
    ]
    upstream = [
        *raw.raw_assets(params.raw_images.dataset),
        *raw.brought_folders(uses, params.raw_images.dataset),
        curation.curated_manifest,
        curation.real_shards,
        *(generation.cascade_assets(params.upsampler.factor) if params.upsampler else []),
        generation.autoencoder_asset(
            learnt, scorer if params.autoencoder.perceptual_weight else None, params.autoencoder.start
        ),
        generation.diffusion_asset(learnt, params.diffusion.start, params.diffusion.encoder),
        generation.evaluation_prompts,
        generation.baseline_samples,
        generation.generator_samples_asset(cascade=cascade),
        synthetic.sampling_plan_asset(plan.scorers, plan.folders, gated=plan.gate is not None),
        synthetic.synthetic_shards_asset(cascade=cascade, gated=plan.gate is not None),
        synthetic.filtered_synthetic_asset(scorer),
        synthetic.synthetic_report_asset(scorer, baselines),
        judging.generator_report_asset(scorer, baselines, params.generator_report.encoders),
        judging.responsibility_asset(scorer, baselines, params.responsibility.safety.unsafe_model or None),
        judging.preference_asset(scorer, baselines, params.preference.votes),
        judging.generator_card,
        *trained,
        *elsewhere,
        soup,
        *measured,
        evaluation.comparisons,
        evaluation.model_card_asset(models, [asset.key for asset in measured], mixed_in),
        reports.claims,
        reports.training_study_asset(compared),
    ]
    shown = [asset.key for asset in upstream if isinstance(asset, dg.AssetsDefinition)]
    return [*upstream, reports.report_asset(shown)]


def build_definitions(params: Params, tree: dict[str, Any]) -> dg.Definitions:
    """Return the definitions, with what all assets share put on in one place."""
    store, tracking = Store(), Tracking()
    definitions = dg.Definitions(
        assets=lineage_assets(params),
        resources={"steps": StepRunner(store=store, tracking=tracking)},
        executor=executor(params.compute),
        schedules=schedules(),
        sensors=sensors(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # pinned to one version, and a test loads the result
        return definitions.map_asset_specs(func=lambda spec: _stamp(spec, tree))


def _stamp(spec: dg.AssetSpec, tree: dict[str, Any]) -> dg.AssetSpec:
    """Give an asset that an op makes the code version that follows from op and parameters, and the refresh rule."""
    module = spec.metadata.get("amalgam/op")
    if module is None:
        return spec
    path = spec.metadata.get("amalgam/params", ".".join(spec.key.path))
    version = code_version(sources_of(module), section(tree, path))
    return spec.replace_attributes(code_version=version, automation_condition=REFRESH)


@cache
def project() -> Project:
    """Return the project as `params.yaml` has it; raises AmalgamError that names what is wrong there."""
    tree = read_tree(ROOT / "params.yaml")
    params = validate(tree, "params.yaml")
    definitions = build_definitions(params, tree)
    return Project(params, tree, definitions, tuple(stages(definitions)))


@dg.definitions
def defs() -> dg.Definitions:
    """Load the code location."""
    return project().definitions
