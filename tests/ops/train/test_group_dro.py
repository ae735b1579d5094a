"""Group DRO against numpy and a plain loop; it resumes to the same bytes, and two processes equal one."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.models.build import build_classifier
from ops.resume import Checkpoint
from ops.train.engine import Engine
from ops.train.group_dro import GroupWeights
from ops.train.launch import Job, train_in
from ops.train.loop import train_classifier
from ops.train.mixing import Batches, make_batches
from ops.train.recipe import Recipe
from ops.train.workers import Workers

CPU = torch.device("cpu")
VIT = {"family": "vit", "patch": 8, "dim": 16, "layers": 1, "heads": 2}
BY = ["label", "attribute:tone"]


def recipe(**changes) -> Recipe:
    base = {
        "architecture": VIT,
        "loss": "group_dro",
        "group_by": BY,
        "group_step": 0.5,
        "group_adjustment": 1.0,
        "averaging": {"decay": 0.9},
        "schedule": {"epochs": 1, "batch": 16, "lr": 0.1},
        "reviews": {"count": 1, "images": 16, "steps": 2},
    }
    return Recipe.model_validate(base | changes)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 500), min_size=1, max_size=6),
    step=st.floats(0.001, 2),
    adjustment=st.floats(0, 5),
    seed=st.integers(0, 2**31),
)
def test_weights_and_loss_are_those_of_numpy(counts, step, adjustment, seed):
    """q exp(step (loss + C / sqrt(n))) for the groups in the batch, made to sum to 1; then sum_g q_g loss_g."""
    draws = np.random.default_rng(seed)
    weights = GroupWeights(np.array(counts), step, adjustment, Workers())
    q = np.full(len(counts), 1 / len(counts))
    for _ in range(4):
        groups, losses = draws.integers(len(counts), size=9), draws.exponential(size=9)
        means = {g: losses[groups == g].mean() for g in set(groups)}
        for g, mean in means.items():
            q[g] *= np.exp(step * (mean + adjustment / np.sqrt(counts[g])))
        q /= q.sum()
        rows = torch.tensor(losses, dtype=torch.float32, requires_grad=True)
        loss, figures = weights(rows, torch.from_numpy(groups))
        loss.backward()
        np.testing.assert_allclose(weights.log_q.exp(), q, rtol=1e-3, atol=1e-6)
        assert float(loss.detach()) == pytest.approx(sum(q[g] * means[g] for g in means), rel=1e-3)
        np.testing.assert_allclose(rows.grad, [q[g] / (groups == g).sum() for g in groups], rtol=1e-3, atol=1e-6)
        assert float(figures["worst group loss"]) == pytest.approx(max(means.values()), rel=1e-5)


def test_a_single_group_is_the_mean_loss():
    losses = torch.rand(8)
    loss, _ = GroupWeights(np.array([8]), 0.3, 1.0, Workers())(losses, torch.zeros(8, dtype=torch.int64))
    torch.testing.assert_close(loss, losses.mean())


def test_a_weight_that_became_nothing_grows_again():
    weights = GroupWeights(np.array([1, 1]), 1.0, 0.0, Workers())
    both = torch.tensor([0, 1])
    for losses in ([400.0, 0.0], [0.0, 420.0]):
        weights(torch.tensor(losses), both)
    torch.testing.assert_close(weights.log_q.exp()[1], torch.tensor(1.0))


def test_training_is_the_published_loop(shards, synthetic, tmp_path):
    """Algorithm 1 by plain autograd and numpy on a twin, on real and synthetic images: same weights of both kinds."""
    plain = {"shape": "constant", "warmup": 0, "momentum": 0, "weight_decay": 0}
    chosen = recipe(
        group_by=["label", "domain"],  # of unequal sizes, which the adjustment tells apart
        augmentation={"crop": 0, "flip": False},
        mix={"real_fraction": 0.5},
        schedule={"epochs": 1, "batch": 16, "lr": 0.1, **plain},
    )
    ours, twin = engine(chosen, shards, synthetic, tmp_path), engine(chosen, shards, synthetic, tmp_path).model.train()
    names, sizes = ours.batches.groups.names, ours.batches.groups.counts
    q = np.full(len(names), 1 / len(names))
    for step in range(5):
        value, _ = ours.step(step)
        (x, y), groups = ours.batches.at(step), ours.batches.groups_at(step)
        losses = -(y * twin(x).log_softmax(1)).sum(1)
        present = groups.unique().tolist()
        means = {g: losses[groups == g].mean() for g in present}
        for g in present:
            q[g] *= np.exp(0.5 * (means[g].item() + 1 / np.sqrt(sizes[g])))
        q /= q.sum()
        loss = sum(float(q[g]) * means[g] for g in present)
        twin.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in twin.parameters():
                p.sub_(0.1 * p.grad)
        assert value == pytest.approx(loss.item(), rel=1e-4)
    assert q.max() > 1.2 * q.min(), "the weights must have moved"
    np.testing.assert_allclose(ours.weights.log_q.exp(), q, rtol=1e-4)
    for a, b in zip(ours.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def engine(chosen: Recipe, shards, synthetic, tmp_path) -> Engine:
    images, extra = (open_images(folder, "train", tmp_path) for folder in (shards, synthetic))
    made = build_classifier(chosen.architecture, 2, [0.5] * 3, [0.25] * 3, 0)
    torch.nn.init.normal_(made.head.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return Engine(chosen, "r", made, make_batches(chosen, images, extra, 0), 0, CPU, Workers())


def test_batches_without_groups_are_refused(shards, tmp_path):
    chosen, images = recipe(), open_images(shards, "train", tmp_path)
    made = build_classifier(chosen.architecture, 2, [0.5] * 3, [0.25] * 3, 0)
    with pytest.raises(AmalgamError, match="recipe r needs groups"):
        Engine(chosen, "r", made, Batches(images, None, chosen.mix, 16, 0), 0, CPU, Workers())


def test_a_killed_run_ends_with_the_same_bytes(shards, synthetic, folders, recorder_type, monkeypatch):
    """Balanced draws, synthetic images, and weights of groups that have moved before the kill."""
    monkeypatch.setattr(Checkpoint, "step", lambda self, done: self.save(done) if done % 3 == 0 else None)
    chosen = recipe(
        architecture={"widths": [8, 16], "blocks": [1, 1]},
        sampling={"method": "balanced", "by": BY},
        mix={"real_fraction": 0.5},
        schedule={"epochs": 2, "batch": 16, "lr": 0.1},
    )
    outs = {}
    for tag, stops in (("whole", [None]), ("killed", [7, None])):
        out, scratch, cache = folders(f"out-{tag}", f"scratch-{tag}", "cache")
        for stop in stops:
            monitor = recorder_type(stop_after=stop)
            places = (shards, synthetic, None, 0, out, scratch, cache, CPU, monitor)
            if stop is None:
                summary = train_classifier(chosen, "r", *places)
            else:
                with pytest.raises(KeyboardInterrupt):
                    train_classifier(chosen, "r", *places)
        outs[tag] = out, summary
    assert 0 < monitor.calls < 12, "resumed, not begun again"
    for name in ("model.safetensors", "model.json", "history.json", "best/model.safetensors"):
        assert (outs["whole"][0] / name).read_bytes() == (outs["killed"][0] / name).read_bytes(), name
    rows = outs["whole"][1].tables["weights of groups"]
    assert rows == outs["killed"][1].tables["weights of groups"]
    assert [row["images"] for row in rows] == [24 + 10] * 4
    assert sum(row["weight"] for row in rows) == pytest.approx(1, abs=1e-3)
    assert max(row["weight"] for row in rows) > min(row["weight"] for row in rows)


def test_two_processes_equal_one(shards, folders, recorder_type):
    """DDP over gloo, with groups that a process has and the other one has not, and repeated mistakes."""
    plain = recipe(loss="clean", group_by=[], group_step=0.01, group_adjustment=0.0)
    first = train(plain, shards, folders, recorder_type(), "early")
    chosen = recipe(
        group_by=[*BY, "domain"],
        sampling={"method": "errors", "identifier": "early", "upweight": 4},
        schedule={"epochs": 1, "batch": 8, "lr": 0.1},
    )
    monitor = recorder_type()
    one = train(chosen, shards, folders, monitor, "one", identifier=first)
    assert "of 96 training images wrong" in monitor.notes[0]
    out, scratch, cache = folders("out-two", "scratch-two", "cache")
    places = {"real": shards, "synthetic": None, "initial": None, "out": out, "scratch": scratch, "cache": cache}
    job = Job(recipe=chosen, name="r", seed=0, device="cpu", identifier=first, **places)
    monitor = recorder_type()
    train_in(2, job, monitor)
    assert monitor.calls == 12
    alone, together = (load_file(folder / "model.safetensors") for folder in (one, out))
    for name, value in alone.items():
        torch.testing.assert_close(value, together[name], rtol=1e-4, atol=1e-5, msg=name)
    losses = [[p["loss"] for p in json.loads((folder / "history.json").read_text())["steps"]] for folder in (one, out)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4), "the loss of the whole batch, not of a process's rows"


def train(chosen: Recipe, shards, folders, monitor, tag: str, identifier=None):
    out, scratch, cache = folders(f"out-{tag}", f"scratch-{tag}", "cache")
    places = (shards, None, None, 0, out, scratch, cache, CPU, monitor)
    train_classifier(chosen, "r", *places, identifier=identifier)
    return out
