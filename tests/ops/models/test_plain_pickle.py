"""Pickles as plain data, against what wrote them; none of them runs."""

import io
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.models.plain_pickle import read_plain

LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


@settings(deadline=None)
@given(PLAIN)
def test_plain_data_come_back(value):
    assert read_plain(io.BytesIO(pickle.dumps(value, protocol=2))) == value


def test_pickles_in_one_file_are_read_one_after_the_other():
    file = io.BytesIO(pickle.dumps([1, "a"], 2) + pickle.dumps((2,), 2) + b"rest")
    assert [read_plain(file), read_plain(file), file.read()] == [[1, "a"], (2,), b"rest"]


def test_a_call_is_named_and_not_made(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    data = pickle.dumps(Trap(), 2)
    assert read_plain(io.BytesIO(data)) == (f"{os.name} mkdir", (str(tmp_path / "sprung"),))
    assert not (tmp_path / "sprung").exists()
    pickle.loads(data)
    assert (tmp_path / "sprung").exists(), "the trap works, for those who unpickle it"


@pytest.mark.parametrize("value", [1.5, b"bytes", {1, 2}])
def test_what_weights_do_not_need_is_refused(value):
    with pytest.raises(ValueError, match="in a pickle"):
        read_plain(io.BytesIO(pickle.dumps([value], protocol=4)))
