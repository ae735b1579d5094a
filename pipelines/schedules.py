"""Schedules; both are off until someone turns them on in the UI."""

import dagster as dg


def schedules() -> list[dg.ScheduleDefinition]:
    """Return the nightly refresh: what is stale, seed after seed."""
    from pipelines.jobs import lineage_job

    @dg.schedule(cron_schedule="0 2 * * *", job=lineage_job(), default_status=dg.DefaultScheduleStatus.STOPPED)
    def nightly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        """Make again what is stale. One run for each seed; only the last one evaluates and reports."""
        from pipelines.definitions import project

        loaded = project()
        partitions = list(dict.fromkeys(s.partition for s in loaded.stages if s.partition))
        before = [key for key in dict.fromkeys(s.asset for s in loaded.stages) if not _after_models(key)]
        requests = [
            dg.RunRequest(partition_key=p, asset_selection=before, stale_assets_only=True, run_key=None)
            for p in partitions[:-1]
        ]
        return [*requests, dg.RunRequest(partition_key=partitions[-1], stale_assets_only=True, run_key=None)]

    return [nightly]


def _after_models(key: dg.AssetKey) -> bool:
    """Say whether an asset needs the models of all seeds."""
    from pipelines.definitions import project

    mine = [s for s in project().stages if s.asset == key]
    waiting, seen = list(mine), set()
    while waiting:
        stage = waiting.pop()
        for parent in stage.parents:
            if parent.partition and not stage.partition:
                return True
            if parent.folder not in seen:
                seen.add(parent.folder)
                waiting.append(parent)
    return False
