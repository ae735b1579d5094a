"""Processes that take turns. (Nothing heavy is imported here: every process imports this file.)"""

import threading
import time

import pytest

from benchmarks.turns import alone, in_turns


def count_up(turn, start: int) -> None:
    while True:
        turn.begin()
        start += 1
        turn.end(value=start)


def stop_early(turn, start: int) -> None:
    turn.begin()


def never_rest(turn) -> None:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()
    while True:
        before = time.process_time()
        turn.begin()
        between = time.process_time() - before
        time.sleep(0.3)
        turn.end(**{"computed in between": between})


def test_sides_take_turns_in_processes_of_their_own():
    said = in_turns(count_up, {"low": (0,), "high": (100,)}, 2)
    assert [line["value"] for line in said["low"]] == [1, 2, 3]
    assert [line["value"] for line in said["high"]] == [101, 102, 103]
    assert all(line["seconds"] >= 0 and line["memory"] > 0 for lines in said.values() for line in lines)
    assert alone(max, 3, 4) == 4
    with pytest.raises(RuntimeError, match="low ended early"):
        in_turns(stop_early, {"low": (0,)}, 1)


def test_who_waits_is_stopped():
    """Two sides with a thread that never rests; while one of them has its turn, the other one computes nothing."""
    said = in_turns(never_rest, {"one": (), "other": ()}, 3)
    for lines in said.values():
        assert all(line["computed in between"] < 0.1 for line in lines[1:])


def test_what_a_process_raises_is_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        alone(int, "x")
