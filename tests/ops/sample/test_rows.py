"""The rows of a plan: as many of each cell as planned, images by their weight, mixed, the same whatever the batches."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.data.captions import TEMPLATES, phrase
from ops.files import read_json
from ops.progress import Silent
from ops.sample.cells import count_cells, grid_of
from ops.sample.mixing import key_sequence
from ops.sample.rows import write_rows
from ops.sample.schema import EXTRAPOLATED, GENERATE, OVERSAMPLE, PLAN_SCHEMA, SEEN


def planned(folder, out, counts: dict, rest="class", copied=(), seed=0, **changes) -> pd.DataFrame:
    """Write and return the rows of {(label, tone): count}."""
    dataset = read_json(folder / "dataset.json")
    grid = grid_of(["tone"], dataset)
    table = count_cells(folder / "manifest.parquet", dataset, grid, Silent())
    places = [int(grid.locate(pd.DataFrame([{"label": c, "attribute:tone": t}]))[0]) for c, t in counts]
    cells = pd.DataFrame(
        {
            "place": places,
            "planned": list(counts.values()),
            "kind": np.where(table.images.ravel()[places] > 0, SEEN, EXTRAPOLATED),
            "method": [OVERSAMPLE if cell in copied else GENERATE for cell in counts],
        }
    )
    write_rows(cells, table, rest, folder, dataset, out / "plan.parquet", seed, Silent(), **changes)
    found = pq.read_table(out / "plan.parquet")
    assert found.schema.equals(PLAN_SCHEMA)
    frame = found.to_pandas(maps_as_pydicts="strict")
    return frame.assign(tone=[a["tone"] for a in frame["attributes"]], sex=[a["sex"] for a in frame["attributes"]])


@pytest.fixture
def some(manifest_of):
    """Sixty images, tone 0 only of discs from slate, weights 1, 2 and 3, a few of 0."""
    rng = np.random.default_rng(0)
    label = np.repeat(["bar", "disc"], 30)
    frame = pd.DataFrame(
        {
            "label": label,
            "tone": np.where(label == "disc", rng.choice(["0", "1"], 60), "1"),
            "sex": rng.choice(["f", "m"], 60),
            "weight": rng.choice([0.0, 1.0, 2.0, 3.0], 60, p=[0.1, 0.3, 0.3, 0.3]),
        }
    )
    frame["domain"] = np.where(frame["tone"] == "0", "slate", "paper")
    return frame, manifest_of(frame)


COUNTS = {("bar", "0"): 41, ("bar", "1"): 300, ("disc", "0"): 97, ("disc", "1"): 13}


@pytest.mark.parametrize("rest", ["class", "cell"])
def test_each_image_is_used_as_often_as_its_weight_says_give_or_take_one(some, folders, rest):
    frame, folder = some
    found = planned(folder, *folders("out"), COUNTS, rest)
    assert found.groupby(["label", "tone"]).size().to_dict() == COUNTS
    for (label, tone), count in COUNTS.items():
        mine = frame["label"] == label
        if rest == "cell" and (label, tone) != ("bar", "0"):  # which nobody has seen
            mine &= frame["tone"] == tone
        weight = frame["weight"].where(mine, 0)
        rows = found[(found["label"] == label) & (found["tone"] == tone)]
        used = rows["concept"].str.removeprefix("i").astype(int).value_counts().reindex(frame.index, fill_value=0)
        assert (used - count * weight / weight.sum()).abs().max() < 1
        models = frame.loc[rows["concept"].str.removeprefix("i").astype(int)]
        assert rows["sex"].tolist() == models["sex"].tolist()
        assert rows["domain"].tolist() == models["domain"].tolist()
    assert found["kind"].eq(EXTRAPOLATED).sum() == 41
    assert found["copy_of"].isna().all()


def test_copies_are_images_of_their_cell_as_they_are(some, folders):
    frame, folder = some
    found = planned(folder, *folders("out"), COUNTS, "class", copied=[("disc", "0")])
    copies = found[found["method"] == OVERSAMPLE]
    assert len(copies) == 97
    originals = frame.loc[copies["copy_of"].str.removeprefix("i").astype(int)]
    for column in ("label", "tone", "sex", "domain"):
        assert copies[column].tolist() == originals[column].tolist()
    assert (originals["weight"] > 0).all()
    assert found.loc[found["method"] == GENERATE, "copy_of"].isna().all()


def test_a_plan_does_not_depend_on_batches(some, folders):
    _, folder = some
    a, b, c, d = folders("a", "b", "c", "d")
    for out, changes in ((a, {}), (b, {"batch": 7}), (c, {"batch": 25}), (d, {"seed": 1})):
        planned(folder, out, COUNTS, copied=[("disc", "1")], chunk=100, **changes)
    bytes_ = [(out / "plan.parquet").read_bytes() for out in (a, b, c, d)]
    assert bytes_[0] == bytes_[1] == bytes_[2] != bytes_[3]
    assert sorted(p.name for p in a.iterdir()) == ["plan.parquet"], "nothing is left beside it"


def test_a_plan_in_chunks_has_the_rows_of_one_in_memory(some, folders):
    _, folder = some
    whole, chunks = (
        planned(folder, out, COUNTS, chunk=size) for out, size in zip(folders("a", "b"), (1000, 30), strict=True)
    )
    assert pq.ParquetFile(folders("b")[0] / "plan.parquet").num_row_groups == 16
    pd.testing.assert_frame_equal(whole, chunks)


def test_every_prefix_has_its_share_of_each_cell(some, folders):
    _, folder = some
    found = planned(folder, *folders("out"), COUNTS)
    assert found["index"].tolist() == list(range(len(found)))
    off = {cell: 1 + np.log2(count) for cell, count in COUNTS.items()}
    for (label, tone), count in COUNTS.items():
        mine = ((found["label"] == label) & (found["tone"] == tone)).cumsum()
        exact = count * (found["index"] + 1) / len(found)
        assert (mine - exact).abs().max() <= off[label, tone] + sum(off.values()) * count / len(found)


def test_captions_say_label_domain_and_attributes_in_all_phrasings(some, folders):
    _, folder = some
    dataset = read_json(folder / "dataset.json")
    found = planned(folder, *folders("out"), COUNTS)
    used = set()
    for row in found.itertuples():
        made = [phrase(t, row.name, row.label, row.domain, row.attributes, dataset) for t in TEMPLATES]
        used.add(made.index(row.caption))
    assert used == set(range(len(TEMPLATES)))


def test_a_single_image_can_carry_more_rows_than_a_batch(manifest_of, folders):
    folder = manifest_of(
        pd.DataFrame({"label": ["bar"] * 5 + ["disc"], "tone": ["1", "1", "1", "0", "0", "1"], "sex": "f"})
    )
    found = planned(folder, *folders("out"), {("disc", "1"): 5000, ("bar", "0"): 3}, batch=100, chunk=1000)
    assert (found.loc[found["label"] == "disc", "concept"] == "i5").all()
    assert len(found) == 5003


def test_a_plan_of_nothing_is_an_empty_file(some, folders):
    assert planned(some[1], *folders("out"), {("bar", "1"): 0}).empty


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_the_first_rows_of_a_cell_are_spread_over_it(count, seed):
    found = key_sequence(np.random.default_rng(seed)).random(count)[:, 0]
    first = np.sort(np.argsort(found)[: max(1, count // 4)])
    gaps = np.diff(np.append(first, first[0] + count))
    assert gaps.max() <= 4 * max(1.0, count / len(first)), "no quarter leaves a wide stretch of the cell out"
