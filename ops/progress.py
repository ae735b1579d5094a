"""How an op reports while it works.

An op knows nothing of terminals, Dagster or MLflow: it calls a `Monitor`, and whoever runs the op decides what becomes
of the calls.
"""

from typing import Protocol


class Monitor(Protocol):
    """Listens to a running op."""

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Report that `done` of `total` units are finished; `figures` are shown beside the bar. Cheap to call often."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record one point of each named curve at `step`."""

    def note(self, message: str) -> None:
        """Write one line to the log of the step."""


class Silent:
    """A monitor that listens to nothing (tests, notebooks)."""

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Ignore the call."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Ignore the call."""

    def note(self, message: str) -> None:
        """Ignore the call."""
