"""What becomes of an op's reports: a bar on the terminal, lines in Dagster's log, live points, curves in MLflow."""

import os
import sys
import time
from typing import Any, TextIO

import dagster as dg
from tqdm import tqdm

from pipelines.lineage import Stage
from pipelines.resources import TrackingRun

LOG_SECONDS = 15.0
OBSERVE_SECONDS = 30.0


def terminal() -> TextIO | None:
    """Return the terminal behind stderr, or None where there is none.

    Dagster redirects file descriptor 2 while it captures a step's output; `attach_terminal` has kept a copy.
    """
    return _terminal


_terminal: TextIO | None = None


def attach_terminal() -> None:
    """Keep a copy of stderr for progress bars (command line only; under `dagster dev` bars go nowhere)."""
    global _terminal
    _terminal = os.fdopen(os.dup(2), "w", buffering=1)


class StepMonitor:
    """Listens to one op (`ops.progress.Monitor`)."""

    def __init__(self, context: dg.AssetExecutionContext, stage: Stage) -> None:
        self.context = context
        self.group = context.assets_def.group_names_by_key[context.asset_key]
        self.run: TrackingRun | None = None
        self._label = stage.folder
        self._partition = stage.partition
        self._bar: Any = None
        self._logged = self._observed = self._begun = time.monotonic()
        self._first = 0

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Move the bar; now and then write a line to the log and a point to the asset's live plots."""
        now = time.monotonic()
        if self._bar is None or self._bar.total != total or self._bar.unit != unit:
            self._new_bar(done, total, unit)
        if self._bar is not None:
            self._bar.set_postfix({k: f"{v:.4g}" for k, v in figures.items()}, refresh=False)
            self._bar.update(done - self._bar.n)
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            line = self._line(done, total, unit, now, figures)
            self.context.log.info(line)
            if self._bar.disable:
                self.say(f"  {self._label}: {line}")
        if figures and now - self._observed >= OBSERVE_SECONDS:
            self._observed = now
            metadata = {"progress": done / max(total, 1), **{k: float(v) for k, v in figures.items()}}
            self.context.log_event(
                dg.AssetObservation(self.context.asset_key, partition=self._partition, metadata=metadata)
            )
            if self.run:
                self.run.flush()

    def _new_bar(self, done: int, total: int, unit: str) -> None:
        self.end()
        self._begun, self._first = time.monotonic(), done
        stream = terminal()
        self._bar = tqdm(
            desc=f"  {self._label}",
            total=total,
            initial=done,
            unit=unit,
            file=stream or sys.stderr,
            disable=stream is None or not stream.isatty(),  # a log file gets lines instead
            mininterval=0.5,
            dynamic_ncols=True,
            leave=False,
        )
        self._bar.unit, self._bar.total = unit, total

    def _line(self, done: int, total: int, unit: str, now: float, figures: dict[str, float]) -> str:
        rate = (done - self._first) / max(now - self._begun, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 else ""
        shown = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        return f"{done}/{total} {unit} ({rate:.3g} {unit}/s{left}){shown}"

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record one point of each named curve."""
        if self.run:
            self.run.metrics(step, values)

    def note(self, message: str) -> None:
        """Write one line to the log, and to the terminal if there is one."""
        self.context.log.info(message)
        self.say(f"  {self._label}: {message}")

    def say(self, message: str) -> None:
        """Write one line to the terminal, if there is one."""
        stream = terminal()
        if stream is not None:
            tqdm.write(message, file=stream)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
