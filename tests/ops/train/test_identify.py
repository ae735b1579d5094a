"""The mistakes that JTT repeats: found by brute force, once, and the same after a kill."""

import numpy as np
import pytest
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.models.checkpoint import load_classifier
from ops.resume import Checkpoint
from ops.train.identify import BATCH, _share, misclassified
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe
from ops.train.workers import Workers

CPU = torch.device("cpu")
SMALL = {"widths": [8, 16], "blocks": [1, 1]}


def recipe(**changes) -> Recipe:
    base = {
        "architecture": SMALL,
        "loss": "clean",
        "averaging": {"decay": 0.9},
        "schedule": {"epochs": 2, "batch": 24, "lr": 0.1},
        "reviews": {"count": 1, "images": 32},
    }
    return Recipe.model_validate(base | changes)


JTT = {"sampling": {"method": "errors", "identifier": "early", "upweight": 3}}


def train(chosen, shards, folders, monitor, tag, identifier=None):
    out, scratch, cache = folders(f"out-{tag}", f"scratch-{tag}", "cache")
    places = (shards, None, None, 0, out, scratch, cache, CPU, monitor)
    train_classifier(chosen, "r", *places, identifier=identifier)
    return out


@pytest.fixture
def early(shards, folders, recorder_type):
    """Return a model that has seen two batches: it gets some images right and some wrong."""
    short = recipe(schedule={"epochs": 0.5, "batch": 24, "lr": 0.02})
    return train(short, shards, folders, recorder_type(), "early")


def test_mistakes_are_those_of_one_image_after_the_other(early, shards, tmp_path, recorder):
    images = open_images(shards, "train", tmp_path)
    found = misclassified(early, images, tmp_path, CPU, recorder, Workers())
    model, _ = load_classifier(early, CPU)
    with torch.no_grad():
        wrong = [n for n in range(len(images)) if int(model(images.batch([n])).argmax()) != images.labels[n]]
    assert found.tolist() == wrong
    assert 0 < len(wrong) < len(images)
    assert recorder.notes == [f"r gets {len(wrong)} of 96 training images wrong: these are repeated"]


def test_mistakes_are_found_once(early, shards, tmp_path, recorder):
    images = open_images(shards, "train", tmp_path)
    first = misclassified(early, images, tmp_path, CPU, recorder, Workers())
    again = misclassified(early / "gone", images, tmp_path, CPU, recorder, Workers())
    assert np.array_equal(first, again)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 3000])
@pytest.mark.parametrize("processes", [1, 2, 3, 16])
def test_processes_share_the_images_in_the_batches_of_a_single_one(count, processes):
    shares = [_share(count, Workers(rank, processes)) for rank in range(processes)]
    assert np.array_equal(np.concatenate([np.arange(count)[part] for part in shares]), np.arange(count))
    assert all(part.start % BATCH == 0 for part in shares if part.start < part.stop)


def test_a_model_of_other_classes_is_named(early, shards, tmp_path, recorder):
    images = open_images(shards, "train", tmp_path)
    other = type(images)(images.images, images.labels, images.table, ("bar", "cube"))
    with pytest.raises(AmalgamError, match="knows bar, disc at 32 pixels; the images are bar, cube at 32"):
        misclassified(early, other, tmp_path, CPU, recorder, Workers())


def test_a_killed_run_ends_with_the_same_bytes(early, shards, folders, recorder_type, monkeypatch):
    monkeypatch.setattr(Checkpoint, "step", lambda self, done: self.save(done) if done % 3 == 0 else None)
    chosen = recipe(**JTT)
    whole = train(chosen, shards, folders, recorder_type(), "whole", early)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, shards, folders, recorder_type(stop_after=5), "killed", early)
    resumed = train(chosen, shards, folders, recorder_type(), "killed", early)
    for name in ("model.safetensors", "model.json", "history.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    plain = train(recipe(), shards, folders, recorder_type(), "plain", early)
    assert (plain / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


def test_without_the_model_training_does_not_begin(shards, folders, recorder):
    with pytest.raises(AmalgamError, match="what early gets wrong") as error:
        train(recipe(**JTT), shards, folders, recorder, "a")
    assert "train early first" in error.value.remedy
    assert recorder.calls == 0
