"""What happens around an op, the same for every asset.

A step makes a temporary folder, hands it to the op, and then publishes: rename, hash, `dvc commit`, MLflow, and the
result for Dagster, in this order, so that nothing is announced that is not in its place.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from assets.steps import Step
from ops.config import Config
from ops.errors import AmalgamError
from ops.files import read_json, replace_folder, write_json
from ops.launching import Here, Launcher
from ops.summary import Summary
from pipelines import dvc
from pipelines.launchers import RayLauncher
from pipelines.lineage import Stage, code_version, digest_folder
from pipelines.monitor import StepMonitor
from pipelines.params import Params, section
from pipelines.project import ROOT, STATE
from pipelines.resources import Store, Tracking, TrackingRun, git_commit
from pipelines.results import result

if TYPE_CHECKING:
    import torch

C = TypeVar("C", bound=Config)


class StepRunner(dg.ConfigurableResource):
    """Begins steps (`assets.steps.Steps`)."""

    store: dg.ResourceDependency[Store]
    tracking: dg.ResourceDependency[Tracking]

    @contextmanager
    def begin(self, context: dg.AssetExecutionContext) -> Iterator[Step]:
        """Open the step of the asset that `context` belongs to; a user's mistake becomes a failure with a remedy."""
        from pipelines.definitions import project

        partition = context.partition_key if context.has_partition_key and context.assets_def.partitions_def else None
        stage = project().stage(context.asset_key, partition)
        training = bool(context.assets_def.metadata_by_key[context.asset_key].get("amalgam/training"))
        with ExitStack() as stack:
            try:
                stack.enter_context(_only_one(stage))
                step = RunningStep(context, stage, project().params, project().tree, self.store)
                stack.callback(step.close)
                if training:
                    step.track(stack.enter_context(self.tracking.run(**step.run_description())))
                yield step
                step.announce()
            except AmalgamError as error:
                raise dg.Failure(str(error), allow_retries=False) from error


@contextmanager
def _only_one(stage: Stage) -> Iterator[None]:
    """Hold the stage's lock, so that two processes never build the same artefact."""
    from filelock import FileLock, Timeout

    path = STATE / "locks" / f"{stage.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise AmalgamError(f"{stage.folder} is being made by another process", "wait for it, or end it") from None


def folder_version(folder: Path) -> str:
    """Return `digest_folder(folder)`, remembered as long as no file's size or time changes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    signature = hashlib.sha256(
        "\n".join(f"{p.relative_to(folder)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files).encode()
    ).hexdigest()
    note = STATE / "digests" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}.json"
    if note.exists() and (known := read_json(note))["signature"] == signature:
        return str(known["digest"])
    digest = digest_folder(folder)
    write_json(note, {"signature": signature, "digest": digest})
    return digest


class RunningStep(StepMonitor):
    """One materialisation in progress (`assets.steps.Step`)."""

    def __init__(
        self, context: dg.AssetExecutionContext, stage: Stage, params: Params, tree: dict[str, Any], store: Store
    ) -> None:
        super().__init__(context, stage)
        self.stage = stage
        self.seed = int(stage.partition.rsplit("-", 1)[1]) if stage.partition else 0
        self._params = params
        self._store = store
        self._started = time.monotonic()
        self._section = section(tree, stage.params)
        self.inputs = {parent.folder: self._version_of(parent) for parent in stage.parents}
        self.inputs |= {raw: dvc.raw_version(raw) for raw in stage.raw}
        self.code = code_version(stage.sources, self._section)
        self.out = store.temporary(stage.folder)
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.scratch = self._open_scratch()
        self.cache = STATE / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)

    def _version_of(self, parent: Stage) -> str:
        path = self._store.path(parent.folder)
        if not path.exists():
            raise AmalgamError(
                f"{self.stage.folder} needs {parent.folder}, which is not in the store",
                f"materialize {'/'.join(parent.asset.path)} first (python -m pipelines run does all)",
            )
        return folder_version(path)

    def _open_scratch(self) -> Path:
        """Return the scratch folder of just these inputs; what others left is removed, since it cannot be resumed."""
        recipe = "\n".join([self.code, *(f"{name} {version}" for name, version in sorted(self.inputs.items()))])
        home = STATE / "scratch" / self.stage.name
        mine = home / hashlib.sha256(recipe.encode()).hexdigest()[:16]
        for other in home.glob("*"):
            if other != mine:
                shutil.rmtree(other, ignore_errors=True)
        if mine.exists() and any(mine.iterdir()):
            self.note("resuming work that was interrupted")
        mine.mkdir(parents=True, exist_ok=True)
        return mine

    @property
    def ledger(self) -> Path:
        """The ledger of this code, whatever the parameters; those of other code are removed."""
        mine = STATE / "ledger" / self.stage.name / code_version(self.stage.sources, None)[:16]
        for other in mine.parent.glob("*"):
            if other != mine:
                shutil.rmtree(other, ignore_errors=True)
        mine.mkdir(parents=True, exist_ok=True)
        return mine

    @property
    def device(self) -> "torch.device":
        """The device this step computes on; torch is set up on first use."""
        from ops.runtime import configure_torch, pick_device

        configure_torch()
        return pick_device(self._params.compute.device)

    @property
    def launcher(self) -> Launcher:
        """Where the pieces of jobs that can be split are done: in this process, or on Ray's workers."""
        compute = self._params.compute
        return Here(self.device) if compute.ray is None else RayLauncher(compute.ray, compute.device)

    @property
    def processes(self) -> int:
        """How many processes train one classifier together."""
        return self._params.compute.processes

    def config(self, kind: type[C]) -> C:
        """Return this asset's section of the parameters."""
        found = section(self._params, self.stage.params)
        assert isinstance(found, kind), f"section {self.stage.params} is no {kind.__name__}"
        return found

    def parent(self, asset: str) -> Path:
        """Return the folder of a parent, or of the raw data called `asset`."""
        if asset in self.stage.raw:
            return ROOT / asset
        folders = [p.folder for p in self.stage.parents if "/".join(p.asset.path) == asset]
        assert len(folders) == 1, f"{self.stage.folder} has {len(folders)} parents called {asset}"
        return self._store.path(folders[0])

    def parents(self, prefix: str = "") -> dict[str, Path]:
        """Return all parents' folders by name, those that start with `prefix`."""
        return {p.folder: self._store.path(p.folder) for p in self.stage.parents if p.folder.startswith(prefix)}

    def run_description(self) -> dict[str, Any]:
        """Return name, experiment, tags and parameters of this step's run in MLflow."""
        return {
            "name": self.stage.folder,
            "experiment": f"amalgam/{self.group}",
            "tags": {
                "dagster.run_id": self.context.run_id,
                "dagster.asset_key": "/".join(self.stage.asset.path),
                "dagster.partition": self.stage.partition or "",
                "code_version": self.code,
                "git.commit": git_commit(),
                "profile": self._params.profile,
                **{f"input.{name}": version for name, version in self.inputs.items()},
            },
            "params": dict(_flat(self._section)) | {"seed": self.seed},
        }

    def track(self, run: TrackingRun | None) -> None:
        """Send curves to `run` from now on."""
        self.run = run

    def finish(self, summary: Summary, checks: list[dg.AssetCheckResult] | None = None) -> dg.MaterializeResult:
        """Publish the folder, version it, tell DVC and MLflow, and return what Dagster should record.

        An artefact whose blocking check failed is published (people must be able to look at it) but not committed to
        DVC.
        """
        finished = time.monotonic()
        final = self._store.path(self.stage.folder)
        replace_folder(self.out, final)
        digest = folder_version(final)
        blocked = any(not check.passed and check.severity == dg.AssetCheckSeverity.ERROR for check in checks or [])
        if not dvc.inside_dvc() and not blocked:
            dvc.commit(self.stage)
        if self.run:
            self.run.metrics(0, {f"final/{k}": v for k, v in summary.figures.items() if isinstance(v, int | float)})
            self.run.tag({"dvc.md5": digest})
            for picture in sorted((final / "pictures").glob("*.png")):
                self.run.picture(picture)
            if (final / "model.json").exists() or (final / "model").exists():
                self.run.model(self.stage.folder, final, digest)
        shutil.rmtree(self.scratch.parent, ignore_errors=True)
        seconds = {"seconds": finished - self._started, "publishing (s)": time.monotonic() - finished}
        return result(summary, final, digest, seconds, self.run, checks)

    def announce(self) -> None:
        """Say on the terminal that the artefact is in its place."""
        self.end()
        self.say(f"✓ {self.stage.folder}  ({time.monotonic() - self._started:.1f} s)")

    def close(self) -> None:
        """Remove the temporary folder (left over after a failure) and end the progress bar."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.end()


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested mapping with dotted names."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}{key}.")
    elif prefix:
        yield prefix.rstrip("."), tree
