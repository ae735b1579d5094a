"""Sides of a comparison in processes of their own, which take turns.

Neither side inherits the other's settings of threads or memory, and whoever waits is stopped: threads that wait actively
would take the cores from the other side. All processes are forks of one that has imported what is asked of
`multiprocessing.set_forkserver_preload` and computed nothing.
"""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Said = dict[str, float]
CONTEXT = multiprocessing.get_context("forkserver")


def alone(function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
    """Return what `function` returns in a fresh process, which then ends."""
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        return pool.submit(function, *arguments, **options).result()


def in_turns(side: Callable[..., None], names: Mapping[str, tuple[Any, ...]], rounds: int) -> dict[str, list[Said]]:
    """Return what the sides say of each of their steps: a warm-up and one in each round.

    A side is `side(turn, *arguments)` in a process of its own, with the arguments that `names` has for it.
    """
    with ExitStack() as stack:
        steps = {name: stack.enter_context(worker(name, side, given)) for name, given in names.items()}
        said = [{name: step() for name, step in steps.items()} for _ in range(rounds + 1)]
    return {name: [each[name] for each in said] for name in names}


@contextmanager
def worker(name: str, side: Callable[..., None], given: tuple[Any, ...]) -> Iterator[Callable[[], Said]]:
    """Give a function that lets a fresh process take its next step; it raises RuntimeError where the process has ended."""
    mine, its = CONTEXT.Pipe()
    process = CONTEXT.Process(target=side, args=(Turn(its), *given), daemon=True)
    process.start()
    its.close()
    assert process.pid is not None
    number = process.pid

    def step() -> Said:
        os.kill(number, signal.SIGCONT)
        try:
            mine.send(None)
            said: Said = mine.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the process of {name} ended early") from None
        os.kill(number, signal.SIGSTOP)
        return said

    try:
        yield step
    finally:
        process.kill()
        process.join()


class Turn:
    """What a side does between its steps: wait for its turn, then say what the step took."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self) -> None:
        """Wait for the turn, then start the clocks."""
        self._connection.recv()
        self._wall, self._cores = time.perf_counter(), time.process_time()

    def end(self, **figures: float) -> None:
        """Say the seconds of the wall and of all cores, the process's peak memory in GiB, and `figures`."""
        wall, cores = time.perf_counter() - self._wall, time.process_time() - self._cores
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self._connection.send({"seconds": wall, "core seconds": cores, "memory": memory, **figures})
