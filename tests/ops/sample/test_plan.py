"""Sampling plans: labels as in the data, attributes uniform, nothing from outside the training split."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import allocate, plan_samples


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.integers(0, 5000))
def test_allocation_adds_up_and_is_within_one(shares, count):
    shares = np.array(shares) / np.sum(shares)
    found = allocate(shares, count)
    assert found.sum() == count
    assert (found >= 0).all()
    assert (np.abs(found - shares * count) < 1 + 1e-9).all()


def plan(shards, out, **changes):
    plan_samples(SamplingPlanConfig(**({"multiple": 2.0, "attribute": "tone"} | changes)), shards, out, None_())
    return pq.read_table(out / "plan.parquet").to_pandas(maps_as_pydicts="strict")


class None_:
    def progress(self, *args, **kwargs): ...
    def metrics(self, *args): ...
    def note(self, *args): ...


def test_uniform_attributes_are_independent_of_the_label(shards, folders):
    found = plan(shards, *folders("plan"), values="uniform")
    train = read_manifest(shards).query("split == 'train'")
    assert len(found) == 2 * len(train)
    tones = found["attributes"].map(lambda a: a["tone"])
    counts = found.groupby(["label", tones]).size().unstack()
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    expected = train["label"].value_counts() * 2
    assert (found["label"].value_counts() - expected).abs().max() <= 2
    assert set(found["concept"]) <= set(train["concept"])


def test_empirical_values_copy_the_training_split(shards, folders, shard_maker, tmp_path):
    found = plan(shards, *folders("plan"), values="empirical")
    train = read_manifest(shards).query("split == 'train'")
    tones = found["attributes"].map(lambda a: a["tone"]).value_counts() / len(found)
    for value, share in (train["attribute:tone"].value_counts() / len(train)).items():
        assert tones[value] == pytest.approx(share, abs=0.02)


def test_a_plan_is_a_function_of_its_seed(shards, folders):
    a, b, c = folders("a", "b", "c")
    plan(shards, a, seed=1)
    plan(shards, b, seed=1)
    plan(shards, c, seed=2)
    bytes_ = [(f / "plan.parquet").read_bytes() for f in (a, b, c)]
    assert bytes_[0] == bytes_[1] != bytes_[2]


def test_unknown_attribute(shards, folders):
    with pytest.raises(AmalgamError, match="no attribute 'age'"):
        plan(shards, *folders("plan"), attribute="age")
