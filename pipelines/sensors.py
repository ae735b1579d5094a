"""Sensors: one keeps Dagster and DVC in agreement, one (off) runs what became stale."""

import hashlib
from typing import Any

import dagster as dg

from pipelines.project import ROOT


def sensors() -> list[dg.SensorDefinition]:
    """Return all sensors."""
    return [dvc_sync_sensor(), automation_sensor()]


def dvc_sync_sensor() -> dg.SensorDefinition:
    """Return the sensor that tells Dagster what `dvc pull`, `dvc checkout` or the run cache brought."""

    @dg.sensor(name="dvc_sync", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
    def dvc_sync(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from pipelines.definitions import project
        from pipelines.state import sync

        cursor = _fingerprint()
        if context.cursor == cursor:
            return dg.SkipReason("dvc.lock, params.yaml and the data are as they were")
        reported = sync(project(), context.instance)
        context.update_cursor(cursor)
        return dg.SkipReason(f"told Dagster of: {', '.join(reported) or 'nothing new'}")

    return dvc_sync


def _fingerprint() -> str:
    """Return a hash of the files that change when DVC does something."""
    digest = hashlib.sha256()
    for name in ("dvc.lock", "data.dvc", "params.yaml"):
        path = ROOT / name
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


_CHANGED: Any = (
    dg.AutomationCondition.code_version_changed()
    | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    | dg.AutomationCondition.missing()
)
REFRESH: dg.AutomationCondition = (
    _CHANGED.since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.in_progress()
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
)
"""Fires once when code or parameters changed or a parent has a *new version*: not when a parent was merely made again
with the same bytes, as `AutomationCondition.eager` would."""


def automation_sensor() -> dg.SensorDefinition:
    """Return the sensor that materializes what became stale; off, since opening a UI must not start training."""
    return dg.AutomationConditionSensorDefinition(
        "refresh_stale", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.STOPPED
    )
