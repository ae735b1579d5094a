"""Rows of a plan read from its file: what reading it whole gives, one row group in memory."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.sample.reading import PlanRows, count_copies
from ops.sample.schema import GENERATE, OVERSAMPLE, PLAN_SCHEMA, ROW_SCHEMA

ROWS = [
    {
        "index": i,
        "label": "bar" if i % 3 else None,
        "domain": "paper",
        "attributes": {"gender": None, "tone": str(i % 2)},
        "name": f"bar {i}",
        "concept": "bar",
        "caption": "a bar",
        "cell": 0,
        "kind": "seen",
        "method": OVERSAMPLE if i % 5 == 0 else GENERATE,
        "copy_of": f"image-{i}" if i % 5 == 0 else None,
    }
    for i in range(23)
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS, PLAN_SCHEMA), path, row_group_size=5)
    return path


@given(start=st.integers(-30, 30) | st.none(), stop=st.integers(-30, 30) | st.none())
def test_any_slice_is_that_of_the_list(plan, start, stop):
    rows = PlanRows(plan)
    assert len(rows) == len(ROWS)
    assert rows[start:stop] == ROWS[start:stop]


def test_single_rows_and_iteration_are_those_of_the_list(plan):
    rows = PlanRows(plan)
    assert list(rows) == ROWS
    assert [rows[7], rows[-1]] == [ROWS[7], ROWS[-1]]
    with pytest.raises(IndexError):
        rows[23]


def test_rows_that_are_read_in_order_decode_each_group_once(plan, monkeypatch):
    rows, read = PlanRows(plan), []
    original = pq.ParquetFile.read_row_group

    def counting(self, group, *given, **named):
        read.append(group)
        return original(self, group, *given, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    for start in range(0, 23, 3):
        assert rows[start : start + 3] == ROWS[start : start + 3]
    assert read == [0, 1, 2, 3, 4]


def test_a_copy_for_another_process_carries_no_rows(plan):
    rows = PlanRows(plan)
    rows[0:4]
    again = pickle.loads(pickle.dumps(rows))
    assert len(pickle.dumps(rows)) < 1000
    assert again[3:9] == ROWS[3:9]


def test_copies_are_counted_and_prompts_have_none(plan, tmp_path):
    assert count_copies(plan) == 5
    prompts = pa.Table.from_pylist([{n: row[n] for n in ROW_SCHEMA.names} for row in ROWS], ROW_SCHEMA)
    pq.write_table(prompts, tmp_path / "plan.parquet")
    assert count_copies(tmp_path / "plan.parquet") == 0
