"""Group `classifiers`: one asset per model that was trained elsewhere. It has no seed, so no partitions."""

from collections.abc import Mapping

import dagster as dg

from assets.steps import Steps, op
from ops.models.external.config import ExternalModel


def external_model(name: str, model: ExternalModel) -> dg.AssetsDefinition:
    """Return the asset `external/<name>`: the code and weights in a folder of raw data as a model folder."""

    @dg.asset(
        key=["external", name],
        group_name="classifiers",
        deps=["real_shards", dg.AssetKey(model.folder.split("/"))],
        kinds={"pytorch"},
        metadata=op("ops.evaluate.external", params=f"external.models.{name}"),
        description=f"{model.object} of {model.folder}, trained elsewhere; evaluated like the others.",
    )
    def bring(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        from ops.evaluate.external import bring_model

        with steps.begin(context) as step:
            config, source, real = step.config(ExternalModel), step.parent(model.folder), step.parent("real_shards")
            summary = bring_model(config, name, source, real, step.out, step.cache, step.device, step)
            return step.finish(summary)

    return bring


def external_assets(models: Mapping[str, ExternalModel]) -> list[dg.AssetsDefinition]:
    """Return one asset per model."""
    return [external_model(name, model) for name, model in models.items()]
