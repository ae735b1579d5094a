"""Prompts have the proportions of the training split, or leave style and attributes open."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import AmalgamError
from ops.generate.prompts import natural_rows, neutral_rows, write_prompts
from ops.generate.prompts_config import EvaluationPromptsConfig
from ops.progress import Silent


def table(count=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(count)],
            "label": ["bar" if i % 4 else "disc" for i in range(count)],
            "domain": "paper",
            "attributes": [{"tone": str(i % 2)} for i in range(count)],
            "name": [f"thing {i % 5}" for i in range(count)],
            "concept": [f"thing {i % 5}" for i in range(count)],
            "caption": [f"a thing {i}" for i in range(count)],
            "weight": rng.choice([0.5, 1.0], count),
        }
    )


def test_natural_prompts_are_drawn_as_often_as_weights_say():
    """Systematic sampling: the count of each row is its share of 400 rounded up or down."""
    given = table()
    rows = natural_rows(EvaluationPromptsConfig(images=400), given)
    assert [row["index"] for row in rows] == list(range(400))
    counts = pd.Series([row["caption"] for row in rows]).value_counts()
    wanted = given.set_index("caption")["weight"] / given["weight"].sum() * 400
    assert (counts.reindex(wanted.index, fill_value=0) - wanted).abs().max() < 1
    assert rows != sorted(rows, key=lambda row: row["caption"]), "in no order"


def test_neutral_prompts_are_even_over_classes_and_open():
    config = EvaluationPromptsConfig(neutral_prompts=6, neutral_images=3)
    rows = neutral_rows(config, table(), {"attributes": {"tone": ["0", "1"], "age": []}})
    assert len(rows) == 18
    assert [row["index"] for row in rows] == list(range(18))
    assert pd.Series([row["label"] for row in rows]).value_counts().to_dict() == {"bar": 9, "disc": 9}
    assert len({row["caption"] for row in rows}) == 6
    for row in rows:
        assert row["domain"] is None
        assert row["attributes"] == {"age": None, "tone": None}
        assert row["caption"] == f"{row['label']}: {row['concept']}"


def test_concepts_that_are_no_words_are_not_told():
    """Patients' numbers, for instance: the generator never saw them in a caption."""
    config = EvaluationPromptsConfig(neutral_prompts=6, neutral_images=2)
    numbered = table().assign(concept=[f"patient{i:05d}" for i in range(len(table()))])
    rows = neutral_rows(config, numbered, {"attributes": {}})
    assert {row["caption"] for row in rows} == {row["name"] for row in rows} == {"bar", "disc"}


@given(st.lists(st.tuples(st.sampled_from(["Ox", "ox", "p7"]), st.sampled_from(["an OX", "ax", "p7 x"])), min_size=1))
def test_concepts_are_words_where_most_images_say_them(pairs):
    """By asking image after image, whatever the case of letters."""
    concepts, names = zip(*pairs, strict=True)
    table = pd.DataFrame({"label": "bar", "concept": concepts, "name": names, "weight": 1.0})
    rows = neutral_rows(EvaluationPromptsConfig(neutral_prompts=3, neutral_images=2), table, {"attributes": {}})
    said = sum(concept.lower() in name.lower() for concept, name in pairs) / len(pairs) > 0.5
    assert sorted(row["caption"] for row in rows[::2]) == sorted(f"bar: {c}" if said else "bar" for c in set(concepts))


def test_plans_are_written_and_repeat(shards, tmp_path):
    config = EvaluationPromptsConfig(images=20, neutral_prompts=2, neutral_images=2)
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_prompts(config, shards, tmp_path / name, Silent())
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"plan.parquet", "neutral.parquet", "dataset.json"}
    neutral = pq.read_table(tmp_path / "a" / "neutral.parquet").to_pylist(maps_as_pydicts="strict")
    assert neutral[0]["attributes"] == {"tone": None}


def test_a_folder_without_training_images_is_refused(shard_maker, tmp_path):
    empty = shard_maker(tmp_path / "empty", {"validation": 4})
    with pytest.raises(AmalgamError, match="no training image"):
        write_prompts(EvaluationPromptsConfig(), empty, tmp_path, Silent())
