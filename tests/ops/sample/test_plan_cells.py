"""The joint table is pandas' groupby, read in batches of any size, in memory that does not grow; bad input is named."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.files import read_json
from ops.progress import Silent
from ops.sample.cells import count_cells, grid_of
from ops.sample.streaming import entries_of, open_manifest, read_batches

FACTORS = ["domain", "tone", "sex"]


def counted(folder, factors, **changes):
    dataset = read_json(folder / "dataset.json")
    return count_cells(folder / "manifest.parquet", dataset, grid_of(factors, dataset), Silent(), **changes)


@pytest.mark.parametrize("factors", [FACTORS, ["tone"], []])
def test_counts_are_those_of_pandas_whatever_the_batch(people, manifest_of, factors):
    folder = manifest_of(people)
    mine = people[(people["split"] == "train") & (people["weight"] > 0)]
    expected = mine.groupby(["label", *factors])["weight"].agg(["size", "sum"])
    for batch in (1013, 65536):
        table = counted(folder, factors, batch=batch)
        cells = pd.MultiIndex.from_product(table.grid.values) if factors else pd.Index(table.grid.values[0])
        wanted = expected.reindex(cells, fill_value=0)
        assert table.images.ravel().tolist() == wanted["size"].tolist()
        np.testing.assert_allclose(table.weights.ravel(), wanted["sum"], rtol=1e-12)
    if factors == FACTORS:
        assert table.images[1, 1, 2].sum() == 0, "the combination that never occurs"
        assert table.seen.all(), "but each of its values does"


def test_another_split_is_counted_alone(people, manifest_of):
    table = counted(manifest_of(people), ["tone"], split="test")
    assert table.images.sum() == ((people["split"] == "test") & (people["weight"] > 0)).sum()


def test_memory_does_not_grow_with_the_manifest(people, manifest_of):
    """Python's allocations; what Arrow holds is measured by `benchmarks.planning`."""

    def peak(rows: int) -> int:
        folder = manifest_of(people.tail(rows), f"shards-{rows}", group=5000)
        tracemalloc.start()
        counted(folder, FACTORS, batch=5000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    counted(manifest_of(people.tail(10_000), "warm"), FACTORS)
    assert peak(200_000) < 1.3 * peak(20_000)


def test_row_groups_of_other_splits_are_not_read(people, manifest_of, monkeypatch):
    file = open_manifest(manifest_of(people, group=10_000) / "manifest.parquet")
    read = sum(part.num_rows for part in file.iter_batches(columns=["split"]))
    asked = []

    class Spy:
        metadata = file.metadata

        def iter_batches(self, batch, row_groups, columns):
            asked.extend(row_groups)
            return file.iter_batches(batch, row_groups=row_groups, columns=columns)

    found = sum(part.num_rows for part in read_batches(Spy(), "train", ["label", "split"]))
    assert found == (people["split"] == "train").sum() < read
    assert len(asked) < file.num_row_groups


@pytest.mark.parametrize("start", [0, 3])
def test_values_of_maps_are_those_of_map_lookup(start):
    maps = [[("a", "1"), ("b", "2")], [], [("b", "3")], [("b", None), ("a", "4")], [("c", "5")], [("a", "6")]]
    array = pa.array(maps, pa.map_(pa.string(), pa.string())).slice(start)
    for name in "abcd":
        rows, values = entries_of(array, name)
        found = np.full(len(array), None, object)
        found[rows] = values.to_pylist()
        assert found.tolist() == pc.map_lookup(array, query_key=name, occurrence="first").to_pylist()


def test_rows_are_located_in_the_grid(shards):
    grid = grid_of(["tone"], read_json(shards / "dataset.json"))
    table = read_manifest(shards)
    places = grid.locate(table)
    for place, label, tone in zip(places, table["label"], table["attribute:tone"], strict=True):
        assert grid.cell(place) == {"label": label, "tone": tone}
    open_ = table.assign(**{"attribute:tone": None})
    assert (grid.locate(open_) == -1).all()
    assert (grid.locate(table.drop(columns="attribute:tone")) == -1).all()
    assert grid.title(3) == "label=disc, tone=1"


def rows_of(**columns) -> pd.DataFrame:
    return pd.DataFrame({"label": ["bar", "disc"] * 10, "tone": ["0", "1"] * 10, **columns})


def test_a_missing_value_is_counted(manifest_of):
    folder = manifest_of(rows_of(sex=["f", None, "m", None] * 5))
    with pytest.raises(AmalgamError, match=r"10 images of real_shards \(train\) have no sex .*missing"):
        counted(folder, ["tone"])


def test_a_value_that_dataset_json_does_not_list_is_named(manifest_of):
    folder = manifest_of(rows_of(), dataset={"attributes": {"tone": ["0"]}})
    with pytest.raises(AmalgamError, match=r"10 images .* no tone that dataset\.json lists: '1'"):
        counted(folder, [])
    folder = manifest_of(rows_of(), "labels", dataset={"classes": ["bar"]})
    with pytest.raises(AmalgamError, match=r"no label that dataset\.json lists: 'disc'"):
        counted(folder, [])


def test_free_text_is_no_attribute_to_plan_with(manifest_of):
    folder = manifest_of(rows_of(note=[f"seen on day {i}" for i in range(20)]))
    assert counted(folder, ["tone"]).images.sum() == 20
    with pytest.raises(AmalgamError, match=r"40 cells \(label 2, note 20 values\), but real_shards has 20") as error:
        counted(folder, ["note"])
    assert "bins" in error.value.remedy


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(manifest_of, weight):
    folder = manifest_of(rows_of(weight=[weight] + [1.0] * 19))
    with pytest.raises(AmalgamError, match="1 weights"):
        counted(folder, [])


def test_a_split_without_images_and_a_folder_without_manifest_are_refused(manifest_of, tmp_path):
    with pytest.raises(AmalgamError, match="no image in the split train"):
        counted(manifest_of(rows_of(split="test")), [])
    with pytest.raises(AmalgamError, match=r"nowhere has no manifest\.parquet"):
        open_manifest(tmp_path / "nowhere" / "manifest.parquet")
