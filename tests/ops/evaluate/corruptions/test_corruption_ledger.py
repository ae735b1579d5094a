"""What an evaluation under corruptions remembers: only what changed is made again, to the bytes of a fresh run."""

import os

import numpy as np
import pytest
import torch

from ops.evaluate.corruptions import images as images_module
from ops.evaluate.corruptions import measure as module
from tests.ops.evaluate.corruptions.cases import MODELS, NAMES, Linear, Threshold, files_of


class Noisy(Linear):
    """A model that draws random numbers, which decide many of its answers."""

    def forward(self, x):
        return super().forward(x) + 20 * torch.randn(len(x), 2)


WITH_NOISE = {**MODELS, "noisy/seed-0": Noisy(3)}


@pytest.fixture
def work(monkeypatch):
    """Return what is corrupted and which model is asked from now on."""
    made, asked = [], []
    corrupt, predict = images_module.corrupt, module.predict
    monkeypatch.setattr(images_module, "corrupt", lambda *a: made.append(a[1:3]) or corrupt(*a))
    monkeypatch.setattr(module, "predict", lambda *a: asked.append(a[1]) or predict(*a))
    return made, asked


def test_only_a_model_that_changed_is_asked_again(measure, folders, work):
    (ledger,) = folders("kept")
    made, asked = work
    before = files_of(measure("before", ledger=ledger))
    retrained = {**MODELS, "soup/seed-0": Linear(9)}
    made.clear(), asked.clear()
    after = files_of(measure("after", retrained, ledger=ledger))
    assert (made, asked) == ([], ["soup/seed-0"] * 7)
    assert after != before
    assert after == files_of(measure("fresh", retrained))

    kept = [path for path in ledger.rglob("*") if path.is_file()]
    assert len(kept) == 6 + 3 * 7, "shards and answers: neither decoded images nor the model that was"
    made.clear(), asked.clear()
    assert files_of(measure("again", retrained, ledger=ledger)) == after
    assert (made, asked) == ([], [])


@pytest.mark.parametrize(
    ("changes", "pieces", "answers"),
    [
        ({"severities": [2, 3, 5]}, 3, 3),
        ({"severities": [5]}, 0, 0),
        ({"corruptions": [*NAMES, "fog"]}, 2, 2),
        ({"replicates": 300}, 0, 0),
        ({"table": "imagenet"}, 6, 6),
        ({"seed": 1}, 6, 7),
        ({"images": 12}, 6, 7),
        ({"splits": ["validation"]}, 6, 7),
        ({"batch": 5}, 0, 7),
    ],
)
def test_settings_make_again_what_depends_on_them(measure, folders, work, changes, pieces, answers):
    """Answers that are counted are those of each model; batches decide what a random model says."""
    (ledger,) = folders("kept")
    made, asked = work
    measure("before", WITH_NOISE, ledger=ledger)
    made.clear(), asked.clear()
    after = files_of(measure("after", WITH_NOISE, ledger=ledger, **changes))
    assert len(set(made)) == pieces
    assert sorted(asked) == sorted([*WITH_NOISE] * answers)
    assert after == files_of(measure("fresh", WITH_NOISE, **changes))


def test_noise_depends_on_the_batch(measure):
    """Otherwise the test above could not tell whether the batch is minded."""
    one, two = (files_of(measure(f"b{size}", {"noisy/seed-0": Noisy(3)}, batch=size)) for size in (8, 5))
    assert one["predictions.parquet"] != two["predictions.parquet"]


def test_published_files_that_changed_are_read_again(measure, folders, work, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.evaluate.corruptions.published.CIFAR_COUNT", 30)
    folder = tmp_path / "cifar-10-c"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("fog", "frost"):
        np.save(folder / f"{name}.npy", rng.integers(0, 255, (150, 32, 32, 3), np.uint8))
    np.save(folder / "labels.npy", np.tile(np.arange(30) % 2, 5).astype(np.uint8))
    (ledger,) = folders("kept")
    _, asked = work
    given = {"models": {"m/seed-0": Threshold(0.49)}, "published": folder, "corruptions": ["fog", "frost"]}
    measure("before", ledger=ledger, **given)
    assert len(asked) == 4
    measure("again", ledger=ledger, **given)
    assert len(asked) == 4

    np.save(folder / "fog.npy", rng.integers(0, 255, (150, 32, 32, 3), np.uint8))
    stat = (folder / "fog.npy").stat()
    os.utime(folder / "fog.npy", ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    after = files_of(measure("after", ledger=ledger, **given))
    assert len(asked) == 6, "frost is as it was"
    assert after == files_of(measure("fresh", **given))
