"""Materialize stages in this process, with the real Dagster instance."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import dagster as dg

from ops.errors import AmalgamError
from pipelines import dvc
from pipelines.lineage import Stage
from pipelines.monitor import attach_terminal
from pipelines.state import plan, status, sync

if TYPE_CHECKING:
    from pipelines.definitions import Project


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance in DAGSTER_HOME."""
    with dg.DagsterInstance.get() as instance:
        yield instance


def run_lineage(wanted: Sequence[str]) -> None:
    """Materialize what is missing or stale among `wanted` assets and their ancestors (all assets, if none is named)."""
    from pipelines.definitions import project

    loaded = project()
    keep = _with_ancestors(loaded, wanted)
    attach_terminal()
    begun, made = time.monotonic(), 0
    with open_instance() as instance:
        for name in sync(loaded, instance):
            click.echo(f"  told Dagster of {name}")
        done = [stage for stage in loaded.stages if stage not in keep]
        while len(done) < len(loaded.stages):
            batch, fresh = plan(loaded, instance, done)
            done += fresh
            if batch:
                execute(loaded, instance, batch)
                done += batch
                made += len(batch)
    _closing_words(made, time.monotonic() - begun)


def _with_ancestors(loaded: "Project", wanted: Sequence[str]) -> set[Stage]:
    """Return the stages of the assets called `wanted` and all they need."""
    known = {"/".join(stage.asset.path) for stage in loaded.stages}
    for name in wanted:
        if name not in known:
            raise AmalgamError(f"there is no asset {name!r}", f"use one of: {', '.join(sorted(known))}")
    waiting = [s for s in loaded.stages if not wanted or "/".join(s.asset.path) in wanted]
    keep: set[Stage] = set()
    while waiting:
        stage = waiting.pop()
        if stage not in keep:
            keep.add(stage)
            waiting.extend(stage.parents)
    return keep


def execute(loaded: "Project", instance: dg.DagsterInstance, batch: Sequence[Stage]) -> None:
    """Run the stages of `batch` (at most one partition) as one Dagster run; raises AmalgamError if a step fails."""
    partition = next((stage.partition for stage in batch if stage.partition), None)
    keys = [stage.asset for stage in batch]
    job = loaded.definitions.resolve_implicit_job_def_def_for_assets(keys)
    assert job is not None, "stages of one batch share a partition"
    outcome = job.execute_in_process(
        instance=instance,
        asset_selection=keys,
        partition_key=partition,
        run_config=_quiet_console(),
        raise_on_error=False,
        tags={"amalgam/by": "dvc repro" if dvc.inside_dvc() else "command line"},
    )
    failures = [event for event in outcome.all_events if event.is_step_failure]
    for event in failures:
        raise AmalgamError(*_explain(event))
    for evaluation in outcome.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.blocking and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
            failed = evaluation.metadata.get("failed examples")
            raise AmalgamError(
                f"the check {name} failed ({failed.value if failed else 'no examples'})",
                "look at the check in the UI (python -m pipelines ui), mend the data or the setting, and run again",
            )
    if not outcome.success:
        raise AmalgamError("the Dagster run failed", f"look at run {outcome.run_id} in the UI (python -m pipelines ui)")


def _quiet_console() -> dict[str, Any]:
    """Return run configuration that keeps Dagster's event lines off the terminal; the event log has them."""
    logging.getLogger("dagster").setLevel(logging.ERROR)
    return {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _explain(event: dg.DagsterEvent) -> tuple[str, str]:
    """Return what failed and what to do, from a step's failure."""
    data = event.step_failure_data
    failure = data.user_failure_data
    if failure and failure.description:
        message, _, remedy = failure.description.partition("\n  remedy: ")
        return f"{event.step_key}: {message}", remedy or "see the run in the UI"
    error = data.error
    while error and error.cause:
        error = error.cause
    text = f"{error.to_string() if error else 'unknown'}".strip()
    return f"{event.step_key} failed:\n{text}", "this is a defect of Amalgam: please report it with the text above"


def materialize_one(asset: str, partition: str | None) -> None:
    """Materialize one stage, whether it is up to date or not."""
    from pipelines.definitions import project

    loaded = project()
    found = [s for s in loaded.stages if "/".join(s.asset.path) == asset]
    chosen = [s for s in found if s.partition == partition]
    if not chosen:
        partitions = [s.partition for s in found if s.partition]
        known = sorted({"/".join(s.asset.path) for s in loaded.stages})
        hint = (
            f"use --partition with one of: {', '.join(partitions)}" if partitions else f"use one of: {', '.join(known)}"
        )
        raise AmalgamError(f"there is no stage {asset}{f' for {partition}' if partition else ''}", hint)
    attach_terminal()
    with open_instance() as instance:
        sync_raw(loaded, instance, chosen[0])
        execute(loaded, instance, chosen)


def sync_raw(loaded: "Project", instance: dg.DagsterInstance, stage: Stage) -> None:
    """Record the version of the raw data that `stage` reads, so that its provenance is right."""
    from pipelines.state import record_raw

    for raw in stage.raw:
        record_raw(instance, raw)


def print_status(as_json: bool) -> None:
    """Print each stage as Dagster and DVC see it."""
    from pipelines.definitions import project

    loaded = project()
    changed = dvc.changed_stages()
    with open_instance() as instance:
        found_all = {stage: status(loaded, instance, stage) for stage in loaded.stages}
    if as_json:
        rows = {s.folder: {"dagster": f.lower(), "dvc_changed": s.name in changed} for s, (f, _) in found_all.items()}
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(stage.folder) for stage in loaded.stages)
    colours = {"FRESH": "green", "STALE": "yellow"}
    for stage, (found, reasons) in found_all.items():
        view = click.style(f"{found.lower():8}", fg=colours.get(found, "red"))
        agree = click.style("changed", fg="yellow") if stage.name in changed else "up to date"
        click.echo(f"{stage.folder:{width}}  dagster: {view} dvc: {agree:12} {'; '.join(dict.fromkeys(reasons))}")


def _closing_words(made: int, seconds: float) -> None:
    from pipelines.project import STORE

    report = STORE / "report" / "report.html"
    if made:
        click.secho(f"\nmade {made} artefacts in {seconds / 60:.1f} min", fg="green", bold=True)
    else:
        click.secho("\neverything is up to date", fg="green", bold=True)
    if report.exists():
        click.echo(f"  report:  {report.relative_to(STORE.parent)}")
    click.echo("  look:    make ui   (Dagster on http://127.0.0.1:3000, MLflow on http://127.0.0.1:5000)")
