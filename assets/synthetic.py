"""Group `synthetic`: images made to a fairness-conditioned plan, and those of them to learn from."""

from collections.abc import Sequence

import dagster as dg

from assets.generation import UPSAMPLER
from assets.judging import JUDGED, keys_of, sources_of
from assets.steps import Steps, op


def sampling_plan_asset(scorers: Sequence[str], folders: Sequence[str], *, gated: bool) -> dg.AssetsDefinition:
    """Return the asset `sampling_plan`, for which recipes of `classifier` are asked and `folders` in `data/` hold targets.

    With a gate it waits for what the generator answers to the evaluation prompts.
    """
    judges = [dg.AssetKey(["classifier", name]) for name in scorers]

    @dg.asset(
        group_name="synthetic",
        deps=[
            *map(dg.AssetKey, ("real_shards", "diffusion", *(["generator_samples"] if gated else []))),
            *judges,
            *keys_of(folders),
        ],
        kinds={"parquet"},
        metadata=op("ops.sample.stage"),
    )
    def sampling_plan(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """How many images of each cell of class, domain and attributes to make, and a row for each of them."""
        from ops.sample.config import SamplingPlanConfig
        from ops.sample.stage import write_plan

        with steps.begin(context) as step:
            summary = write_plan(
                step.config(SamplingPlanConfig),
                step.parent("real_shards"),
                step.parent("diffusion"),
                step.parent("generator_samples") / "diffusion" if gated else None,
                {name: step.parents(f"classifier/{name}/") for name in scorers},
                {folder: step.parent(folder) for folder in folders},
                step.out,
                step.cache,
                step.device,
                step,
            )
            return step.finish(summary)

    return sampling_plan


def synthetic_shards_asset(*, cascade: bool, gated: bool) -> dg.AssetsDefinition:
    """Return the asset `synthetic_shards`, which waits for the upsampler of a cascade; a gate may repeat real images."""

    @dg.asset(
        group_name="synthetic",
        deps=["sampling_plan", "diffusion", *([UPSAMPLER] if cascade else []), *(["real_shards"] if gated else [])],
        kinds={"pytorch", "webdataset"},
        metadata=op("ops.generate.synthesis"),
    )
    def synthetic_shards(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """The planned images, each with the generator, conditioning, sampler and seed that made it."""
        from ops.generate.synthesis import generate_shards
        from ops.generate.synthesis_config import SyntheticShardsConfig

        with steps.begin(context) as step:
            summary = generate_shards(
                step.config(SyntheticShardsConfig),
                step.parent("sampling_plan"),
                step.parent("diffusion"),
                step.out,
                step.scratch,
                step.launcher,
                step,
                step.parent(UPSAMPLER) if cascade else None,
                step.parent("real_shards") if gated else None,
            )
            return step.finish(summary)

    return synthetic_shards


def filtered_synthetic_asset(scorer: str) -> dg.AssetsDefinition:
    """Return the asset `filtered_synthetic`, for which the recipe `scorer` of `classifier` judges (all its seeds)."""
    judge = dg.AssetKey(["classifier", scorer])

    @dg.asset(
        group_name="synthetic",
        deps=[*map(dg.AssetKey, ("real_shards", "synthetic_shards", "diffusion")), judge],
        kinds={"pytorch", "webdataset"},
        metadata=op("ops.sample.filtering"),
    )
    def filtered_synthetic(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """The synthetic images to learn from: labelled, balanced and chosen with a non-robust classifier."""
        from ops.sample.config import FilteredSyntheticConfig
        from ops.sample.filtering import filter_synthetic

        with steps.begin(context) as step:
            summary = filter_synthetic(
                step.config(FilteredSyntheticConfig),
                step.parent("real_shards"),
                step.parent("synthetic_shards"),
                step.parents(f"classifier/{scorer}/"),
                step.out,
                step.scratch,
                step.cache,
                step.device,
                step,
                step.parent("diffusion"),
            )
            return step.finish(summary)

    return filtered_synthetic


def synthetic_report_asset(scorer: str, baselines: list[str]) -> dg.AssetsDefinition:
    """Return the asset `synthetic_report`, in which answers of the generator and of `baselines` are compared as well."""

    @dg.asset(
        group_name="synthetic",
        deps=[*JUDGED, *map(dg.AssetKey, ("synthetic_shards", "filtered_synthetic", ["classifier", scorer]))],
        kinds={"pytorch", "parquet"},
        metadata=op("ops.sample.report"),
    )
    def synthetic_report(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """What the filter accepted of each cell of the plan, and whether synthetic images add what training images lack."""
        from ops.sample.report import write_synthetic_report
        from ops.sample.report_config import SyntheticReportConfig

        with steps.begin(context) as step:
            summary = write_synthetic_report(
                step.config(SyntheticReportConfig),
                step.parent("real_shards"),
                step.parent("synthetic_shards"),
                step.parent("filtered_synthetic"),
                sources_of(step, baselines),
                step.parents(f"classifier/{scorer}/"),
                step.out,
                step.cache,
                step.device,
                step,
            )
            return step.finish(summary)

    return synthetic_report
