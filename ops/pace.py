"""How fast a training goes."""

import time


class Pace:
    """Images per second, without the time that evaluations take."""

    def __init__(self, first: int, steps: int, batch: int) -> None:
        self.first, self.steps, self.batch = first, steps, batch
        self._begun = time.monotonic()
        self._idle = 0.0

    def images_per_second(self, step: int) -> float:
        """Return the mean rate since the start or the resumption."""
        return (step + 1 - self.first) * self.batch / max(time.monotonic() - self._begun - self._idle, 1e-9)

    def figures(self, step: int) -> dict[str, float]:
        """Return rate and time remaining, for the curves."""
        rate = self.images_per_second(step)
        return {"images per second": rate, "seconds remaining": (self.steps - step - 1) * self.batch / rate}

    def paused(self) -> "Pace":
        """Return a context whose time does not count."""
        return self

    def __enter__(self) -> None:
        self._stopped = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._idle += time.monotonic() - self._stopped
