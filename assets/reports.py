"""Group `reports`: what the numbers say, and the page that says it."""

from collections.abc import Sequence

import dagster as dg

from assets.steps import Steps, op


@dg.asset(
    group_name="reports",
    deps=["robustness", "fairness"],
    kinds={"parquet"},
    metadata=op("ops.report.claims"),
)
def claims(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """What the papers claim, what was measured here, and whether it holds."""
    from ops.report.claims import judge_claims
    from ops.report.config import ClaimsConfig

    with steps.begin(context) as step:
        config = step.config(ClaimsConfig)
        return step.finish(judge_claims(config, step.parent("robustness"), step.parent("fairness"), step.out, step))


def training_study_asset(models: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """Return the asset `training_study`, which compares how `models` (classifiers and ingredients) were trained."""

    @dg.asset(group_name="reports", deps=list(models), kinds={"parquet"}, metadata=op("ops.report.training"))
    def training_study(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Robust overfitting, augmentation, weight averaging and the share of real images, recipe by recipe."""
        from ops.report.config import TrainingStudyConfig
        from ops.report.training import compare_training

        with steps.begin(context) as step:
            return step.finish(compare_training(step.parents(), step.out, step, step.config(TrainingStudyConfig)))

    return training_study


def report_asset(ancestors: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """Return the asset `report`, which shows all of `ancestors`."""

    @dg.asset(group_name="reports", deps=list(ancestors), kinds={"html"}, metadata=op("ops.report.html"))
    def report(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """One page for whoever signs off: claims first, then the evidence."""
        from ops.report.config import ReportConfig
        from ops.report.html import write_report

        with steps.begin(context) as step:
            return step.finish(write_report(step.config(ReportConfig), step.parents(), step.out, step))

    return report
