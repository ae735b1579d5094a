"""`params.yaml` as one typed tree, and the profiles it is made from.

`profiles/default.yaml` holds every setting; the other profiles name only what they change. `params.yaml` is one of
them written out: the file that people edit and that DVC and Dagster read.
"""

import copy
import io
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from ops.config import Config
from ops.data.config import CuratedManifestConfig, ManifestConfig, RawImagesConfig, RealShardsConfig
from ops.errors import AmalgamError
from ops.evaluate.comparison_config import ComparisonsConfig
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.score import ALEXNET_NAME
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.shift.config import ShiftConfig
from ops.generate.baselines.config import BaselinesConfig
from ops.generate.config import AutoencoderConfig
from ops.generate.model_config import DiffusionConfig
from ops.generate.preference.config import PreferenceStageConfig
from ops.generate.prompts_config import EvaluationPromptsConfig
from ops.generate.quality.config import QualityConfig
from ops.generate.responsibility.config import GeneratorCardConfig, ResponsibilityStageConfig
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.generate.upsampler_config import UpsamplerConfig
from ops.models.external.config import ExternalModels, check_format
from ops.report.config import ClaimsConfig, ModelCardConfig, ReportConfig, TrainingStudyConfig
from ops.sample.config import FilteredSyntheticConfig, SamplingPlanConfig
from ops.sample.report_config import SyntheticReportConfig
from ops.soup.config import SoupConfig
from ops.train.arms import lineage_of
from ops.train.recipe import Recipe
from pipelines.compute import Compute
from pipelines.project import ROOT


class Recipes(Config):
    """A section that holds recipes by name."""

    recipes: dict[str, Recipe] = Field(description="Recipe by name; each becomes an asset `<section>/<name>`.")


class Params(Config):
    """Every setting of the pipeline; one section per stage."""

    profile: str = Field(description="The profile that this file was written from.")
    compute: Compute
    seeds: list[int] = Field(min_length=1, description="Training seeds; each is a partition `seed-<n>`.")
    raw_images: RawImagesConfig
    manifest: ManifestConfig
    curated_manifest: CuratedManifestConfig
    real_shards: RealShardsConfig
    autoencoder: AutoencoderConfig
    diffusion: DiffusionConfig
    upsampler: UpsamplerConfig | None
    evaluation_prompts: EvaluationPromptsConfig
    baseline_samples: BaselinesConfig
    generator_samples: SyntheticShardsConfig
    generator_report: QualityConfig
    responsibility: ResponsibilityStageConfig
    preference: PreferenceStageConfig
    generator_card: GeneratorCardConfig
    sampling_plan: SamplingPlanConfig
    synthetic_shards: SyntheticShardsConfig
    filtered_synthetic: FilteredSyntheticConfig
    synthetic_report: SyntheticReportConfig
    classifier: Recipes
    ingredient: Recipes
    external: ExternalModels
    soup: SoupConfig
    robustness: RobustnessConfig
    corruptions: CorruptionsConfig
    shift: ShiftConfig
    fairness: FairnessConfig
    comparisons: ComparisonsConfig
    model_card: ModelCardConfig
    claims: ClaimsConfig
    training_study: TrainingStudyConfig
    report: ReportConfig


def section(tree: Any, path: str) -> Any:
    """Return the part of a nested mapping or model at the dotted `path` (`classifier.recipes.real`)."""
    for name in path.split("."):
        tree = tree[name] if isinstance(tree, dict) else getattr(tree, name)
    return tree


def read_tree(path: Path) -> dict[str, Any]:
    """Return the YAML mapping in `path`; raises AmalgamError where it is missing or is not one."""
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "python -m pipelines profile default"
        raise AmalgamError(f"{name} is missing", remedy) from None
    except yaml.YAMLError as error:
        raise AmalgamError(f"{name} is not valid YAML: {error}", "correct the line that is named") from None
    if not isinstance(tree, dict):
        raise AmalgamError(f"{name} holds no settings", "python -m pipelines profile default")
    return tree


def validate(tree: dict[str, Any], name: str) -> Params:
    """Return `tree` as typed parameters; raises AmalgamError that names each wrong key of the file `name`."""
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        message = "\n".join([f"{name} has {len(problems)} mistake(s):", *problems])
        raise AmalgamError(
            message, f"correct the keys above; `profiles/default.yaml` shows all of them ({name})"
        ) from None
    _check_names(params, name)
    return params


MINILM = "minilm"
"""The text encoder that needs no folder."""

SOURCES = ("filtered_synthetic", "synthetic_shards")
"""The assets that a recipe can mix in."""


def _check_names(params: Params, name: str) -> None:
    """Raise AmalgamError if a recipe, model or source is mentioned that does not exist or does not fit."""
    trained = {f"classifier/{r}" for r in params.classifier.recipes} | {
        f"ingredient/{r}" for r in params.ingredient.recipes
    }
    for kind, recipes in (("classifier", params.classifier.recipes), ("ingredient", params.ingredient.recipes)):
        for key, recipe in recipes.items():
            for setting, parent in (
                ("initialisation", recipe.initialisation),
                ("sampling.identifier", recipe.sampling.identifier),
            ):
                known = parent in params.classifier.recipes and (kind, parent) != ("classifier", key)
                if parent not in ("scratch", "") and not known:
                    raise AmalgamError(
                        f"{name}: {kind}.recipes.{key}.{setting} is {parent!r}, no other recipe of `classifier`",
                        f"use one of: {', '.join(['scratch', *params.classifier.recipes])}",
                    )
            if recipe.uses_synthetic and not _is_source(recipe.mix.source):
                raise AmalgamError(
                    f"{name}: {kind}.recipes.{key}.mix.source is {recipe.mix.source!r}, which makes no shards",
                    f"use one of: {', '.join(SOURCES)}, or a folder of shards such as data/my-shards",
                )
    for key in params.classifier.recipes:
        lineage_of(params.classifier.recipes, key)  # refuses circles
    _check_scorer(params, name)
    brought = {
        "autoencoder.start": params.autoencoder.start,
        "diffusion.start": params.diffusion.start,
        "diffusion.encoder": params.diffusion.encoder,
        "responsibility.safety.unsafe_model": params.responsibility.safety.unsafe_model or None,
        "preference.votes": params.preference.votes,
        **{f"generator_report.encoders.{key}": place for key, place in params.generator_report.encoders.items()},
    }
    for key, place in brought.items():
        if place not in (None, MINILM) and not _is_folder(place):
            raise AmalgamError(
                f"{name}: {key} is {place!r}",
                "name a folder below data/, such as data/generators/emoji-people/diffusion",
            )
    for limit in ("min_contrast", "min_entropy"):
        ours, theirs = getattr(params.responsibility, limit), getattr(params.curated_manifest, limit)
        if ours != theirs:
            raise AmalgamError(
                f"{name}: responsibility.{limit} is {ours} and curated_manifest.{limit} {theirs}",
                "give both one value: outputs are held to the limits of real images",
            )
    for key, model in params.external.models.items():
        check_format(model.weights, f"{name}: external.models.{key}.weights")
    external = {f"external/{key}" for key in params.external.models}
    measured = (trained - {f"classifier/{params.filtered_synthetic.scorer}"}) | {"soup"} | external
    baseline = params.corruptions.baseline
    named = {
        "corruptions.baseline": None if baseline == ALEXNET_NAME else baseline,
        "comparisons.reference": params.comparisons.reference,
    }
    for key, wanted in named.items():
        if wanted not in measured | {None}:
            raise AmalgamError(
                f"{name}: {key} is {wanted!r}, which is not measured", f"use one of: {', '.join(sorted(measured))}"
            )
    for key, folder in params.shift.sets.items():
        if folder == params.raw_images.dataset:
            raise AmalgamError(
                f"{name}: shift.sets.{key} is {folder}, the dataset itself",
                "name a folder of other images; domains of the dataset are in `shift.shifted`",
            )
    for part in params.soup.ingredients:
        if part not in trained:
            raise AmalgamError(
                f"{name}: soup.ingredients names {part!r}, which no recipe makes",
                f"use some of: {', '.join(sorted(trained))}",
            )


def _is_source(source: str) -> bool:
    """Say whether `source` is an asset of shards, or a folder below `data/`."""
    return source in SOURCES or _is_folder(source)


def _is_folder(place: str) -> bool:
    """Say whether `place` is a clean path of a folder below `data/`."""
    top, *below = place.split("/")
    return top == "data" and bool(below) and all(part not in ("", ".", "..") for part in below)


def _check_scorer(params: Params, name: str) -> None:
    """Raise AmalgamError unless the scorer is a clean classifier that was trained on real images only."""
    scorer, recipes = params.filtered_synthetic.scorer, params.classifier.recipes
    fit = [key for key, r in recipes.items() if r.loss == "clean" and not r.uses_synthetic]
    remedy = f"use one of: {', '.join(fit)}" if fit else "add a recipe to `classifier` with `loss: clean`"
    where = f"{name}: filtered_synthetic.scorer is {scorer!r}"
    if scorer not in recipes:
        raise AmalgamError(f"{where}, no recipe of `classifier`", remedy)
    if recipes[scorer].loss != "clean":
        raise AmalgamError(f"{where}, whose loss is {recipes[scorer].loss} and not clean", remedy)
    _check_real_only(recipes, scorer, where, "what filters synthetic images", remedy)
    for judge in params.sampling_plan.scorers:
        where = f"{name}: sampling_plan asks the classifier {judge!r}"
        if judge not in recipes:
            raise AmalgamError(f"{where}, no recipe of `classifier`", f"use one of: {', '.join(recipes)}")
        _check_real_only(recipes, judge, where, "what plans synthetic images", remedy)


def _check_real_only(recipes: dict[str, Recipe], recipe: str, where: str, use: str, remedy: str) -> None:
    """Raise AmalgamError if a recipe, or one that it needs, learns from synthetic images."""
    for key in reversed(lineage_of(recipes, recipe)):
        if recipes[key].uses_synthetic:
            way = "which" if key == recipe else f"which needs {key!r}, and that"
            raise AmalgamError(
                f"{where}, {way} learns from {recipes[key].mix.source}: {use} must not learn from them",
                f"set classifier.recipes.{key}.mix.real_fraction to 1, or {remedy}",
            )


def load_params(root: Path = ROOT) -> Params:
    """Return the parameters in `params.yaml`."""
    return validate(read_tree(root / "params.yaml"), "params.yaml")


def profiles(root: Path = ROOT) -> list[str]:
    """Return the names of all profiles, the default first."""
    return sorted((path.stem for path in (root / "profiles").glob("*.yaml")), key=lambda n: (n != "default", n))


def resolve(profile: str, root: Path = ROOT) -> str:
    """Return the text of `params.yaml` for `profile`: the default with the profile's changes, comments kept."""
    from ruamel.yaml import YAML

    if profile not in profiles(root):
        raise AmalgamError(f"there is no profile {profile!r}", f"use one of: {', '.join(profiles(root))}")
    text = (root / "profiles" / "default.yaml").read_text(encoding="utf-8")
    if profile != "default":
        editor = YAML()
        editor.preserve_quotes = True
        editor.width = 120
        editor.indent(mapping=2, sequence=4, offset=2)
        tree = editor.load(text)
        _merge(tree, read_tree(root / "profiles" / f"{profile}.yaml"))
        tree["profile"] = profile
        stream = io.StringIO()
        editor.dump(tree, stream)
        text = stream.getvalue()
    validate(yaml.safe_load(text), f"profiles/{profile}.yaml")
    return text


def _merge(tree: dict[str, Any], changes: dict[str, Any]) -> None:
    """Put `changes` into `tree`: mappings merge; a value replaces; a null removes the key."""
    for key, value in changes.items():
        if value is None:
            tree.pop(key, None)
        elif isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = copy.deepcopy(value)  # an anchor in a profile must not become an alias in params.yaml
