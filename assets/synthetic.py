"""Group `synthetic`: images made to a fairness-conditioned plan."""

import dagster as dg

from assets.steps import Steps, op


@dg.asset(group_name="synthetic", deps=["real_shards"], kinds={"parquet"}, metadata=op("ops.sample.plan"))
def sampling_plan(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """One row per image to make: labels as in the training split, attributes uniform."""
    from ops.sample.config import SamplingPlanConfig
    from ops.sample.plan import plan_samples

    with steps.begin(context) as step:
        summary = plan_samples(step.config(SamplingPlanConfig), step.parent("real_shards"), step.out, step)
        return step.finish(summary)


@dg.asset(
    group_name="synthetic",
    deps=["sampling_plan", "diffusion", "autoencoder"],
    kinds={"pytorch", "webdataset"},
    metadata=op("ops.generate.sampling"),
)
def synthetic_shards(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """The planned images, each with the generator, conditioning, sampler and seed that made it."""
    from ops.generate.config import SyntheticShardsConfig
    from ops.generate.sampling import generate_shards

    with steps.begin(context) as step:
        summary = generate_shards(
            step.config(SyntheticShardsConfig),
            step.parent("sampling_plan"),
            step.parent("diffusion"),
            step.parent("autoencoder"),
            step.out,
            step.scratch,
            step.device,
            step,
        )
        return step.finish(summary)
