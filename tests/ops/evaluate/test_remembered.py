"""Names of what is remembered: equal for equal things, different for all others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ops.data.loading import ImageSet
from ops.evaluate.remembered import forget_others, images_digest, model_folders, short_digest

RNG = np.random.default_rng(0)
IMAGES = ImageSet(
    RNG.integers(0, 255, (6, 4, 4, 3), np.uint8),
    np.array([0, 1, 0, 1, 0, 1]),
    pd.DataFrame({"id": list("abcdef"), "split": "test", "domain": "x"}),
    ("bar", "disc"),
)


def test_equal_images_have_one_name_wherever_they_lie(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES.images)
    mapped = replace(IMAGES, images=np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert images_digest(mapped) == images_digest(IMAGES)
    assert images_digest(IMAGES.subset(np.arange(6))) == images_digest(IMAGES)


@pytest.mark.parametrize(
    "change",
    [
        lambda i: replace(i, images=i.images ^ (np.arange(6 * 48) == 77).reshape(6, 4, 4, 3).astype(np.uint8)),
        lambda i: replace(i, images=i.images.reshape(6, 2, 8, 3)),
        lambda i: replace(i, labels=np.array([0, 1, 0, 1, 1, 0])),
        lambda i: replace(i, classes=("disc", "bar")),
        lambda i: replace(i, table=i.table.assign(id=list("abcdeg"))),
        lambda i: replace(i, table=i.table.assign(split="near")),
        lambda i: i.subset(np.array([1, 0, 2, 3, 4, 5])),
        lambda i: i.subset(np.arange(5)),
    ],
)
def test_other_images_have_another(change):
    assert images_digest(change(IMAGES)) != images_digest(IMAGES)


def test_parts_do_not_run_together():
    assert len({short_digest("ab", "c"), short_digest("a", "bc"), short_digest("abc"), short_digest("ab", "c", 1)}) == 4


def test_answers_are_of_the_weights_and_the_batch(tmp_path):
    models = {name: tmp_path / name for name in ("a", "b")}
    for name, folder in models.items():
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(name.encode())
    first = model_folders(tmp_path / "home", models, 8)
    assert first == model_folders(tmp_path / "home", models, 8)
    assert not set(first.values()) & set(model_folders(tmp_path / "home", models, 9).values())
    (models["a"] / "model.safetensors").write_bytes(b"trained again")
    second = model_folders(tmp_path / "home", models, 8)
    assert (second["a"] == first["a"], second["b"] == first["b"]) == (False, True)


def test_only_what_was_used_is_kept(tmp_path):
    for name in ("a/1", "a/2", "b/c/3", "b/d/4", "5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    forget_others(tmp_path, {tmp_path / "a/1", tmp_path / "b/d/4"})
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["a", "a/1", "b", "b/d", "b/d/4"]
