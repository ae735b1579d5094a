"""What is kept of every class: small, in order, and no more is read than is asked for."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from ops.errors import AmalgamError
from ops.evaluate.probabilities import (
    FILE,
    join_probabilities,
    read_probabilities,
    splits_with_probabilities,
    write_probabilities,
)


@pytest.fixture
def kept(tmp_path):
    """Return a folder with what two models say of two splits, and what they said."""
    rng, said, pieces = np.random.default_rng(0), {}, []
    for name in ("classifier/real/seed-1", "external/theirs"):
        for split, count in (("test", 50), ("near", 30)):
            logits = rng.normal(0, 9, (count, 5))
            said[name, split] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            pieces.append(tmp_path / f"{len(pieces)}.parquet")
            ids, labels = [f"{split}-{n}" for n in range(count)], ["a", "b"] * (count // 2)
            write_probabilities(pieces[-1], name, split, ids, labels, said[name, split])
    join_probabilities(pieces, tmp_path / FILE)
    return tmp_path, said


def test_what_is_read_is_what_was_written(kept):
    folder, said = kept
    assert splits_with_probabilities(folder) == ["near", "test"]
    for (name, split), expected in said.items():
        model, seed = ("external/theirs", -1) if name.startswith("external") else ("classifier/real", 1)
        ids, labels, found = read_probabilities(folder, model, seed, split)
        assert ids.tolist() == [f"{split}-{n}" for n in range(len(expected))]
        assert labels[:3].tolist() == ["a", "b", "a"]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)


def test_the_order_of_images_stays_where_a_model_is_sure(tmp_path):
    """Probabilities this near 1 would be equal in float32."""
    rest = np.array([[-20.0], [-25.0], [-30.0]])
    sure = np.log1p(-np.exp(rest))
    write_probabilities(tmp_path / FILE, "m/seed-0", "test", list("abc"), list("xxx"), np.hstack([sure, rest]))
    found = read_probabilities(tmp_path, "m", 0, "test")[2]
    assert (np.diff(found[:, 0]) > 0).all()
    assert (np.diff(found[:, 1]) < 0).all()


def test_a_model_and_split_is_a_row_group(kept):
    """So that one is read without the others."""
    file = pq.ParquetFile(kept[0] / FILE)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [50, 30, 50, 30]


def test_what_is_missing_is_named(kept, tmp_path):
    with pytest.raises(AmalgamError, match="no probabilities of soup, seed 0, on test"):
        read_probabilities(kept[0], "soup", 0, "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AmalgamError, match=r"empty has no probabilities\.parquet"):
        splits_with_probabilities(tmp_path / "empty")
