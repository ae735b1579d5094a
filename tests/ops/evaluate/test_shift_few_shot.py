"""Few-shot splits: nested, disjoint by concept, the same for the same seed, and read back."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.errors import AmalgamError
from ops.evaluate.shift.config import FewShotConfig
from ops.evaluate.shift.few_shot import (
    FEW_SHOT,
    few_shot_images,
    few_shot_rows,
    read_few_shot,
    shortages,
    write_few_shot,
)

CONFIG = FewShotConfig(shots=[1, 3, 5], seeds=[0, 1], support_share=0.5)


def table_of(concepts: list[tuple[str, str, str, int]]) -> pd.DataFrame:
    """Return a manifest of (domain, label, concept, images)."""
    rows = [
        {"id": f"{d}-{label}-{c}-{n}", "split": "shift", "domain": d, "label": label, "concept": c}
        for d, label, c, count in concepts
        for n in range(count)
    ]
    return pd.DataFrame(rows, columns=["id", "split", "domain", "label", "concept"]).drop_duplicates("id")


def roles(rows: pd.DataFrame, **where) -> dict[str, set[str]]:
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return {role: set(rows.loc[rows["role"] == role, "id"]) for role in ("support", "query")}


manifests = st.lists(
    st.tuples(st.sampled_from("de"), st.sampled_from("abc"), st.sampled_from("uvwxyz"), st.integers(1, 6)), min_size=1
).map(table_of)


@settings(max_examples=30, deadline=None)
@given(manifests, st.floats(0.05, 0.95), st.randoms())
def test_support_and_query(table, share, shuffler):
    """Concepts may hold images of several classes, as a patient does."""
    config = CONFIG.model_copy(update={"support_share": share})
    rows = few_shot_rows(table, config)
    concept = table.set_index("id")["concept"]
    label = table.set_index("id")["label"]
    for (domain, seed), mine in rows.groupby(["domain", "seed"]):
        before: set[str] = set()
        queries = []
        for shots in config.shots:
            found = roles(mine, shots=shots)
            sides = [set(concept[list(ids)]) for ids in found.values()]
            assert not sides[0] & sides[1], "no concept is on both sides"
            assert before <= found["support"], "fewer shots are among more"
            assert label[list(found["support"])].value_counts().max() <= shots if found["support"] else True
            assert found["query"], "something is left to test on"
            before = found["support"]
            queries.append(found["query"])
        assert queries[0] == queries[1] == queries[2], "the test is the same for all shots"
        here = table[table["domain"] == domain]
        assert set(mine["id"]) <= set(here["id"])
        assert seed in config.seeds
        left = set(here["id"]) - set(mine["id"])
        assert not set(concept[list(left)]) & set(concept[list(queries[0])]), "unused images are of reserved concepts"
    order = list(range(len(table)))
    shuffler.shuffle(order)
    assert few_shot_rows(table.iloc[order], config).equals(rows), "the order of the manifest does not matter"


def test_every_image_its_own_concept():
    """As many as asked are taken, no more are lost, and seeds differ."""
    table = table_of([("d", label, f"{label}{n}", 1) for label in "ab" for n in range(40)])
    rows = few_shot_rows(table, CONFIG)
    for seed in (0, 1):
        for shots in (1, 3, 5):
            found = roles(rows, seed=seed, shots=shots)
            assert len(found["support"]) == 2 * shots
            assert len(found["query"]) == 2 * 35
    assert roles(rows, seed=0, shots=5) != roles(rows, seed=1, shots=5)
    assert shortages(rows, table) == []


def test_images_of_many_concepts_come_first():
    """Of four concepts with six images, two are reserved: three shots are of both."""
    table = table_of([("d", "a", c, 6) for c in "uvwx"] + [("d", "b", c, 6) for c in "mnop"])
    rows = few_shot_rows(table, CONFIG)
    concept = table.set_index("id")["concept"]
    for shots, expected in ((1, {1}), (3, {1, 2}), (5, {2, 3})):
        support = roles(rows, seed=0, shots=shots)["support"]
        counts = concept[[i for i in support if i.startswith("d-a")]].value_counts()
        assert set(counts) == expected
    assert len(roles(rows, seed=0, shots=1)["query"]) == 2 * 12


def test_classes_with_too_few_images():
    """One concept is all query; two concepts give one, and no more than it has."""
    table = table_of(
        [("d", "a", "u", 6), ("d", "b", "m", 2), ("d", "b", "n", 2), *(("d", "c", f"c{n}", 1) for n in range(20))]
    )
    rows = few_shot_rows(table, CONFIG)
    found = roles(rows, seed=0, shots=5)
    assert sorted(i[2] for i in found["support"]) == ["b", "b", *"ccccc"]
    assert {i for i in found["query"] if i[2] == "a"} == set(table.loc[table["label"] == "a", "id"])
    assert [(r["label"], r["shots"], r["found"]) for r in shortages(rows, table)] == [
        *(("a", 1, 0), ("a", 3, 0), ("a", 5, 0), ("b", 3, 2), ("b", 5, 2))
    ]


def test_domains_take_the_same_concepts_first():
    table = table_of([(d, "a", c, 3) for d in "de" for c in "uvwxyz"])
    rows = few_shot_rows(table, CONFIG)
    by_domain = [{i[4:5] for i in roles(rows, domain=d, seed=0, shots=5)["support"]} for d in "de"]
    assert by_domain[0] == by_domain[1]


def test_nothing_shifted_is_an_empty_table(tmp_path):
    rows = few_shot_rows(table_of([]), CONFIG)
    write_few_shot(tmp_path / "few_shot.parquet", rows)
    assert pq.read_table(tmp_path / "few_shot.parquet").schema.equals(FEW_SHOT)
    assert shortages(rows, table_of([])) == []
    with pytest.raises(AmalgamError, match="no split 'shift'") as error:
        read_few_shot(tmp_path, "shift", "d", 1, 0)
    assert "none" in error.value.remedy


def test_reading_back(tmp_path):
    table = table_of([(d, label, f"{label}{n}", 1) for d in "de" for label in "ab" for n in range(9)])
    rows = few_shot_rows(table, CONFIG)
    write_few_shot(tmp_path / "few_shot.parquet", rows)
    found = read_few_shot(tmp_path, "shift", "e", 3, 1)
    expected = roles(rows, domain="e", shots=3, seed=1)
    assert set(found.support) == expected["support"]
    assert set(found.query) == expected["query"]
    assert len(found.support) == 6
    for wrong, message, known in (
        (("test", "e", 3, 1), "no split 'test'", "shift"),
        (("shift", "x", 3, 1), "no domain 'x'", "d, e"),
        (("shift", "e", 2, 1), "no shots 2", "1, 3, 5"),
        (("shift", "e", 3, 7), "no seed 7", "0, 1"),
    ):
        with pytest.raises(AmalgamError, match=message) as error:
            read_few_shot(tmp_path, *wrong)
        assert known in error.value.remedy
    with pytest.raises(AmalgamError, match="no few_shot"):
        read_few_shot(tmp_path / "elsewhere", "shift", "d", 1, 0)


def test_a_domain_that_nobody_can_adapt_to(tmp_path):
    write_few_shot(tmp_path / "few_shot.parquet", few_shot_rows(table_of([("d", "a", "u", 4)]), CONFIG))
    with pytest.raises(AmalgamError, match="no class of d in shift has two concepts"):
        read_few_shot(tmp_path, "shift", "d", 1, 0)


def test_the_images_are_those_of_the_ids(tmp_path, shards):
    manifest = pd.read_parquet(shards / "manifest.parquet")
    table = manifest.loc[manifest["split"] == "test", ["id", "split", "domain", "label", "concept"]]
    write_few_shot(tmp_path / "few_shot.parquet", few_shot_rows(table, CONFIG))
    chosen = read_few_shot(tmp_path, "test", "slate", 3, 0)
    support, query = few_shot_images(chosen, tmp_path, shards, "test", tmp_path / "cache")
    assert support.table["id"].tolist() == list(chosen.support)
    assert query.table["id"].tolist() == list(chosen.query)
    assert sorted(support.labels) == [0, 0, 0, 1, 1, 1]
    assert set(query.table["domain"]) == {"slate"}
    assert support.batch([0]).shape == (1, 3, 32, 32)
    with pytest.raises(AmalgamError, match="not in validation"):
        few_shot_images(chosen, tmp_path, shards, "validation", tmp_path / "cache")


@pytest.mark.parametrize(
    "changes", [{"shots": []}, {"shots": [0]}, {"seeds": []}, {"support_share": 1.0}, {"support_share": 0}]
)
def test_mistakes_in_the_settings(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        FewShotConfig.model_validate(changes)
