"""Votes are on the disk before the next pair, survive a kill at any byte, and are checked on the way in and out."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.errors import AmalgamError
from ops.generate.preference.exports import as_frame, merged, parquet_bytes, read_votes, write_votes
from ops.generate.preference.study import build_plan, write_plan
from ops.generate.preference.votes import FIELDS, Vote, VoteStore


@pytest.fixture
def plan(config, sources):
    return build_plan(config, sources, "overall", "development")


def vote(plan, number, rater="ada", choice="A", side="AB"):
    pair, prompt = plan.comparisons[number].name
    return Vote(plan.study_id, plan.aspect, pair, side, rater, prompt, choice)


def test_votes_are_there_again_after_reopening(plan, tmp_path):
    path = tmp_path / "votes" / "study.jsonl"
    with VoteStore(plan, path) as store:
        store.add(vote(plan, 3))
        store.extend([vote(plan, 0, "bob", "tie"), vote(plan, 1, "bob", "B", "BA")])
        given = store.votes()
    assert [v.rater_id for v in given] == ["ada", "bob", "bob"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(line) for line in lines] == [{*FIELDS, "at"}] * 3
    with VoteStore(plan, path) as store:
        assert store.votes() == given
        assert store.of("bob") == given[1:]


def test_a_second_vote_replaces_the_first(plan, tmp_path):
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        store.extend([vote(plan, 0), vote(plan, 1), vote(plan, 0, "bob")])
        store.add(vote(plan, 0, choice="tie", side="BA"))
        expected = [vote(plan, 1), vote(plan, 0, "bob"), vote(plan, 0, choice="tie", side="BA")]
        assert store.votes() == expected
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 4
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        assert store.votes() == expected


def test_undo_takes_back_a_raters_own_last_vote(plan, tmp_path):
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        store.extend([vote(plan, 0), vote(plan, 1), vote(plan, 2, "bob")])
        assert store.undo("ada") == vote(plan, 1)
        assert store.votes() == [vote(plan, 0), vote(plan, 2, "bob")]
        assert store.undo("cleo") is None
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        assert store.votes() == [vote(plan, 0), vote(plan, 2, "bob")]
        assert store.undo("ada") == vote(plan, 0)
        assert store.undo("ada") is None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10**6))
def test_a_line_that_a_kill_tore_is_mended_wherever_it_was_torn(plan, tmp_path, cut):
    path = tmp_path / "whole.jsonl"
    if not path.exists():
        with VoteStore(plan, path) as store:
            store.extend([vote(plan, 0, "Zoë"), vote(plan, 1, "Zoë"), vote(plan, 2, "bob")])
    whole = path.read_bytes()
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(whole[: cut % (len(whole) + 1)])
    complete = torn.read_bytes().count(b"\n")
    with VoteStore(plan, torn) as store:
        assert len(store.votes()) == complete
        store.add(vote(plan, 5, "late"))
    with VoteStore(plan, torn) as store:
        assert [v.rater_id for v in store.votes()][-1] == "late"
        assert len(store.votes()) == complete + 1


def test_a_killed_process_loses_no_vote_that_it_acknowledged(plan, tmp_path):
    write_plan(plan, tmp_path / "plan.json")
    code = """
        import itertools, sys
        from pathlib import Path
        from ops.generate.preference.study import read_plan
        from ops.generate.preference.votes import Vote, VoteStore
        plan = read_plan(Path(sys.argv[1]))
        store = VoteStore(plan, Path(sys.argv[2]))
        for number in itertools.count():
            for comparison in plan.comparisons:
                pair, prompt = comparison.name
                store.add(Vote(plan.study_id, plan.aspect, pair, "AB", f"r{number}", prompt, "A"))
                print(number, flush=True)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "plan.json"), str(tmp_path / "v.jsonl")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [process.stdout.readline() for _ in range(150)]
        with pytest.raises(AmalgamError, match="open in another process"):
            VoteStore(plan, tmp_path / "v.jsonl")
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += process.stdout.readlines()
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        assert len(acknowledged) <= len(store.votes()) <= len(acknowledged) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study_id": "overall-development-0"}, "is of study overall-development-0"),
        ({"aspect": "appeal"}, "is of study"),
        ({"pair": "beta vs alpha"}, "no comparison of beta vs alpha"),
        ({"prompt_id": "99999999"}, "no comparison of alpha vs beta on prompt 99999999"),
        ({"side": "left"}, "the side 'left'"),
        ({"choice": "left"}, "the choice 'left'"),
        ({"choice": None}, "which is no text"),
        ({"rater_id": ""}, "no name for a rater"),
        ({"rater_id": "judge:"}, "no name for a rater"),
        ({"rater_id": "x" * 41}, "no name for a rater"),
        ({"rater_id": "a\nb"}, "no name for a rater"),
    ],
)
def test_what_is_no_vote_of_the_study_is_refused_everywhere(plan, tmp_path, change, message):
    wrong = replace(vote(plan, 0), **change)
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        with pytest.raises(AmalgamError, match=message):
            store.extend([vote(plan, 1), wrong])
        assert store.votes() == []
    assert (tmp_path / "v.jsonl").read_bytes() == b"", "all or nothing"
    rows = [asdict(vote(plan, 1)), asdict(wrong)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v.parquet")
    with pytest.raises(AmalgamError, match=message):
        read_votes(tmp_path / "v.parquet", plan)


def test_a_damaged_line_in_the_middle_is_named(plan, tmp_path):
    path = tmp_path / "v.jsonl"
    with VoteStore(plan, path) as store:
        store.extend([vote(plan, 0), vote(plan, 1), vote(plan, 2)])
    lines = path.read_bytes().splitlines(keepends=True)
    for damage in (lines[1][:30] + b"\n", b"[]\n", b'{"choice": "A"}\n', b"\n"):
        path.write_bytes(lines[0] + damage + lines[2])
        with pytest.raises(AmalgamError, match=r"line 2 of v\.jsonl is no vote"):
            VoteStore(plan, path)
    path.write_bytes(b"".join(lines))
    with VoteStore(plan, path) as store:  # a refused file is not left locked
        assert len(store.votes()) == 3


def test_exports_are_equal_bytes_for_equal_votes(plan, tmp_path):
    given = [vote(plan, 4, "bob"), vote(plan, 0), vote(plan, 2, choice="tie")]
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        store.extend(given)
        assert parquet_bytes(store.votes()) == parquet_bytes(given[::-1])
        write_votes(tmp_path / "v.parquet", store.votes())
    assert pq.read_schema(tmp_path / "v.parquet").names == list(FIELDS), "no times in what is versioned"
    again = read_votes(tmp_path / "v.parquet", plan)
    assert sorted(again, key=repr) == sorted(given, key=repr)
    with VoteStore(plan, tmp_path / "other.jsonl") as store:
        store.extend(again)
        assert parquet_bytes(store.votes()) == (tmp_path / "v.parquet").read_bytes()


def test_a_later_row_of_an_import_replaces(plan, tmp_path):
    rows = [asdict(vote(plan, 0, choice=choice)) for choice in ("A", "B")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v.parquet")
    assert read_votes(tmp_path / "v.parquet", plan) == [vote(plan, 0, choice="B")]


def test_what_is_no_export_is_refused(plan, tmp_path):
    path = tmp_path / "v.parquet"
    path.write_text("no parquet")
    with pytest.raises(AmalgamError, match="no Parquet file"):
        read_votes(path, plan)
    pq.write_table(pa.Table.from_pylist([asdict(vote(plan, 0))]).drop_columns(["side", "choice"]), path)
    with pytest.raises(AmalgamError, match="no side, choice"):
        read_votes(path, plan)


def test_votes_of_several_aspects_are_never_merged(plan):
    frame = as_frame([vote(plan, 0), vote(plan, 1)])
    assert len(merged([frame, frame.assign(rater_id="bob")])) == 4
    with pytest.raises(AmalgamError, match="appeal, overall"):
        merged([frame, frame.assign(aspect="appeal")])
