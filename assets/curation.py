"""Group `curation`: what is fit to learn from."""

import dagster as dg

from assets.steps import Steps, op

CONTRACT = "manifest_contract"
QUALITY = "manifest_quality"


@dg.asset(
    group_name="curation",
    deps=["manifest", "raw_images"],
    kinds={"greatexpectations", "parquet"},
    metadata=op("ops.data.curation"),
    check_specs=[
        dg.AssetCheckSpec(CONTRACT, asset="curated_manifest", blocking=True, description="What later stages rely on."),
        dg.AssetCheckSpec(QUALITY, asset="curated_manifest", description="What deserves a look."),
    ],
)
def curated_manifest(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """The manifest after quality filters, perceptual deduplication across splits, and captions."""
    from assets.checks import check_results
    from ops.data.config import CuratedManifestConfig
    from ops.data.curation import curate_manifest
    from ops.data.expectations import check_manifest

    with steps.begin(context) as step:
        config = step.config(CuratedManifestConfig)
        summary = curate_manifest(config, step.parent("manifest"), step.parent("raw_images"), step.out, step)
        outcomes = check_manifest(step.out)
        return step.finish(summary, check_results(outcomes, contract=CONTRACT, quality=QUALITY))


@dg.asset(
    group_name="curation",
    deps=["curated_manifest", "raw_images"],
    kinds={"webdataset"},
    metadata=op("ops.data.shards"),
)
def real_shards(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """The curated images as WebDataset shards by split, with their manifest."""
    from ops.data.config import RealShardsConfig
    from ops.data.shards import write_real_shards

    with steps.begin(context) as step:
        config = step.config(RealShardsConfig)
        summary = write_real_shards(config, step.parent("curated_manifest"), step.parent("raw_images"), step.out, step)
        return step.finish(summary)
