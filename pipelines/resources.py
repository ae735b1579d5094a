"""Resources: where artefacts lie, and who keeps track of training."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from pipelines.project import MLFLOW_URI, ROOT, STORE


class Store(dg.ConfigurableResource):
    """The folder tree of artefacts: `<root>/<asset>[/<partition>]`."""

    root: str = str(STORE)

    def path(self, folder: str) -> Path:
        """Return the absolute path of an artefact's folder."""
        return Path(self.root) / folder

    def temporary(self, folder: str) -> Path:
        """Return the sibling in which the artefact is built before it is renamed."""
        final = self.path(folder)
        return final.with_name(f".{final.name}.tmp")


@cache
def git_commit() -> str:
    """Return the commit that is checked out, with `-dirty` where files differ from it; empty outside git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


class Tracking(dg.ConfigurableResource):
    """MLflow: one run per training step. Curves are buffered and sent in batches (a row at a time is 100x slower)."""

    uri: str = MLFLOW_URI
    enabled: bool = True

    @contextmanager
    def run(
        self, name: str, experiment: str, tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> Iterator["TrackingRun | None"]:
        """Open a run called `name`; it ends FINISHED, or FAILED if the block raises. None where tracking is off."""
        if not self.enabled:
            yield None
            return
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        info = client.create_run(experiment_id, run_name=name).info
        run = TrackingRun(client, info.run_id)
        client.log_batch(
            info.run_id,
            params=[Param(key, str(value)[:6000]) for key, value in sorted(params.items())],
            tags=[RunTag(key, value[:5000]) for key, value in sorted(tags.items())],
        )
        try:
            yield run
        except BaseException:
            run.flush()
            client.set_terminated(info.run_id, "FAILED")
            raise
        run.flush()
        client.set_terminated(info.run_id, "FINISHED")


def metric_name(name: str) -> str:
    """Return `name` without the characters that MLflow refuses: `PSNR (dB)` becomes `PSNR dB`."""
    return " ".join(re.sub(r"[^\w\-. /:]", " ", name).split())


class TrackingRun:
    """An open MLflow run with a buffer of metric points."""

    LIMIT = 500

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._points: list[Any] = []

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Buffer one point per curve."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points.extend(Metric(metric_name(name), float(value), now, step) for name, value in values.items())
        if len(self._points) >= self.LIMIT:
            self.flush()

    def tag(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def picture(self, path: Path) -> None:
        """Keep a copy of a small picture with the run."""
        self.client.log_artifact(self.run_id, str(path), "pictures")

    def model(self, name: str, folder: Path, digest: str) -> None:
        """Register the model in `folder` as external: DVC owns its bytes."""
        from mlflow.entities import LoggedModelStatus

        experiment = self.client.get_run(self.run_id).info.experiment_id
        tags = {
            "dvc.path": folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else str(folder),
            "dvc.md5": digest,
        }
        model = self.client.create_logged_model(
            experiment, name=name.replace("/", "-"), source_run_id=self.run_id, tags=tags
        )
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def flush(self) -> None:
        """Send what is buffered."""
        for start in range(0, len(self._points), 1000):
            self.client.log_batch(self.run_id, metrics=self._points[start : start + 1000])
        self._points.clear()
