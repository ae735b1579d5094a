"""Jobs that can be launched or scheduled as a whole."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


def lineage_job() -> UnresolvedAssetJobDefinition:
    """Return the job that materializes every asset; its runs are partitioned by seed."""
    return dg.define_asset_job("lineage", selection=dg.AssetSelection.all(), description="Every asset, for one seed.")
