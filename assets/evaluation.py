"""Group `evaluation`: how good, how robust, and for whom."""

from collections.abc import Sequence

import dagster as dg

from assets.steps import Steps, op


def robustness_asset(models: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """Return the asset `robustness`, which attacks every one of `models`."""

    @dg.asset(
        group_name="evaluation",
        deps=["real_shards", *models],
        kinds={"pytorch", "parquet"},
        metadata=op("ops.evaluate.robustness"),
    )
    def robustness(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Clean and robust accuracy of every model on every split, with the outcome of each single image."""
        from ops.evaluate.config import RobustnessConfig
        from ops.evaluate.robustness import measure_robustness

        with steps.begin(context) as step:
            folders = step.parents()
            real = folders.pop("real_shards")
            summary = measure_robustness(
                step.config(RobustnessConfig), folders, real, step.out, step.scratch, step.cache, step.device, step
            )
            return step.finish(summary)

    return robustness


@dg.asset(
    group_name="evaluation",
    deps=["robustness", "real_shards"],
    kinds={"parquet"},
    metadata=op("ops.evaluate.fairness"),
)
def fairness(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """Accuracy by group, the worst group and the gap, in and out of distribution."""
    from ops.evaluate.config import FairnessConfig
    from ops.evaluate.fairness import measure_fairness

    with steps.begin(context) as step:
        config = step.config(FairnessConfig)
        summary = measure_fairness(config, step.parent("robustness"), step.parent("real_shards"), step.out, step)
        return step.finish(summary)
