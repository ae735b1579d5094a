"""What is up to date, by Dagster's own rules; and telling Dagster what DVC changed behind its back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from pipelines import dvc
from pipelines.lineage import Stage, code_version
from pipelines.project import STORE
from pipelines.steps import folder_version

if TYPE_CHECKING:
    from pipelines.definitions import Project


def status(project: "Project", instance: dg.DagsterInstance, stage: Stage) -> tuple[str, list[str]]:
    """Return FRESH, STALE, MISSING or DAMAGED, and the reasons for STALE.

    FRESH, STALE and MISSING are what the UI shows, from the same resolver; DAMAGED is a folder that is not there or not
    what Dagster has recorded.
    """
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    graph = project.definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    found = resolver.get_status(stage.asset, stage.partition).value
    if found == "FRESH" and not is_intact(instance, stage):
        return "DAMAGED", ["the folder in the store is not what Dagster recorded"]
    return found, [cause.reason for cause in resolver.get_stale_causes(stage.asset, stage.partition)]


def recorded_version(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None) -> str:
    """Return the data version of the latest event of an asset or partition; empty where there is none."""
    from dagster._core.definitions.data_version import extract_data_version_from_entry

    record = instance.get_latest_data_version_record(asset, is_source=False, partition_key=partition)
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    return version.value if version else ""


def is_intact(instance: dg.DagsterInstance, stage: Stage) -> bool:
    """Say whether the stage's folder holds what Dagster last recorded."""
    folder = STORE / stage.folder
    return folder.exists() and folder_version(folder) == recorded_version(instance, stage.asset, stage.partition)


def sync(project: "Project", instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster of raw data that changed and of outputs that DVC brought (pull, checkout, run cache).

    A stage is reported if DVC calls it up to date, its folder is what `dvc.lock` says, and Dagster does not know it.
    Returns the names of what was reported.
    """
    reported = [raw for raw in sorted({r for s in project.stages for r in s.raw}) if record_raw(instance, raw)]
    locked = dvc.locked_outputs()
    if not locked:
        return reported
    changed = dvc.changed_stages()
    for stage in project.stages:
        folder = STORE / stage.folder
        if stage.name in changed or stage.name not in locked or not folder.exists():
            continue
        if _loaded_code(project, stage) != code_version(stage.sources, _section(project, stage)):
            continue  # these definitions were loaded before the code changed: they cannot vouch for it
        if status(project, instance, stage)[0] != "FRESH" and folder_version(folder) == locked[stage.name]:
            _report(instance, project, stage, locked[stage.name])
            reported.append(stage.folder)
    return reported


def record_raw(instance: dg.DagsterInstance, raw: str) -> bool:
    """Record the version of a folder of raw data if it is new; says whether it was."""
    from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG

    key = dg.AssetKey(raw.split("/"))
    version = dvc.raw_version(raw)
    if recorded_version(instance, key, None) == version:
        return False
    tags = {DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    metadata = {"folder": dg.MetadataValue.path(raw), "dvc md5": dg.MetadataValue.text(version)}
    instance.report_runless_asset_event(dg.AssetMaterialization(key, tags=tags, metadata=metadata))
    return True


def _report(instance: dg.DagsterInstance, project: "Project", stage: Stage, version: str) -> None:
    """Record a materialization with the provenance tags that make Dagster call it fresh.

    Both tags are needed for each parent: without the event pointer Dagster sees "a new dependency".
    """
    from dagster._core.definitions import data_version as names

    tags = {
        names.DATA_VERSION_TAG: version,
        names.DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        names.CODE_VERSION_TAG: _loaded_code(project, stage),
    }
    parents: dict[dg.AssetKey, list[str | None]] = {}
    for parent in stage.parents:
        parents.setdefault(parent.asset, []).append(parent.partition)
    for raw in stage.raw:
        parents[dg.AssetKey(raw.split("/"))] = [None]
    for key, partitions in parents.items():
        records = [instance.get_latest_data_version_record(key, False, p) for p in partitions]
        pointer = max((record.storage_id for record in records if record), default=None)
        tags[names.get_input_data_version_tag(key)] = recorded_version(instance, key, partitions[0])
        tags[names.get_input_event_pointer_tag(key)] = str(pointer) if pointer else names.NULL_EVENT_POINTER
    origin = dg.MetadataValue.text("brought by DVC")
    metadata: dict[str, dg.MetadataValue] = {"origin": origin, "folder": dg.MetadataValue.path(f"store/{stage.folder}")}
    event = dg.AssetMaterialization(stage.asset, partition=stage.partition, tags=tags, metadata=metadata)
    instance.report_runless_asset_event(event)


def _loaded_code(project: "Project", stage: Stage) -> str:
    return project.definitions.resolve_asset_graph().get(stage.asset).code_version or ""


def _section(project: "Project", stage: Stage) -> object:
    from pipelines.params import section

    return section(project.tree, stage.params)


def plan(project: "Project", instance: dg.DagsterInstance, done: Sequence[Stage]) -> tuple[list[Stage], list[Stage]]:
    """Return the next batch to run and the stages found up to date, given those that are `done`.

    Stages that were never made can run together in one Dagster run, which holds at most one partition; a stale stage
    runs alone, because its children may turn out to need nothing (same bytes, same version).
    """
    settled, batch = list(done), []
    partition: str | None = None
    fresh: list[Stage] = []
    for stage in project.stages:
        if stage in settled or any(p not in settled and p not in batch for p in stage.parents):
            continue
        if stage.partition and partition and stage.partition != partition:
            continue
        found, _ = status(project, instance, stage)
        waits = any(p in batch for p in stage.parents)
        if found == "FRESH" and not waits:
            settled.append(stage)
            fresh.append(stage)
        elif found == "MISSING":
            batch.append(stage)
            partition = partition or stage.partition
        elif not batch:
            return [stage], fresh
    return batch, fresh
