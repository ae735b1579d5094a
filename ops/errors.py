"""Errors a user can act on."""


class AmalgamError(Exception):
    """A mistake in the input, data or settings, with what to do about it.

    The command line prints `message` and `remedy` without a traceback; Dagster shows both in the step's failure.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}\n  remedy: {remedy}")
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["AmalgamError"], tuple[str, str]]:
        """Let workers raise it in the process that waits for them."""
        return AmalgamError, (self.message, self.remedy)
