"""How steps run: in this process, or several side by side."""

import dagster as dg

from pipelines.compute import Compute


def executor(compute: Compute) -> dg.ExecutorDefinition:
    """Return the executor that the profile asks for.

    `multiprocess` forks its steps from a server that has imported the definitions already: a fresh interpreter for
    every step would spend seconds on imports.
    """
    if compute.executor == "in_process":
        return dg.in_process_executor
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": compute.max_concurrent,
            "start_method": {"forkserver": {"preload_modules": ["pipelines.definitions"]}},
        }
    )
