"""Steps of the engine: parts of a batch, several processes, free adversarial training, the cost of data."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.train.engine import Engine
from ops.train.launch import Job, train_in
from ops.train.loop import train_classifier
from ops.train.mixing import Batches
from ops.train.recipe import Mix, Recipe
from ops.train.workers import Workers

CPU = torch.device("cpu")
VIT = {"family": "vit", "patch": 8, "dim": 16, "layers": 1, "heads": 2}


def recipe(**changes) -> Recipe:
    base = {
        "architecture": VIT,
        "threat": {"norm": "linf", "eps": 4 / 255},
        "attack": {"steps": 2, "step_size": 0.5},
        "averaging": {"decay": 0.9},
        "schedule": {"epochs": 1, "batch": 16, "lr": 0.1},
        "reviews": {"count": 1, "images": 16, "steps": 2},
    }
    return Recipe.model_validate(base | changes)


def engine(chosen: Recipe, shards, tmp_path, synthetic=None) -> Engine:
    images = open_images(shards, "train", tmp_path)
    extra = open_images(synthetic, "train", tmp_path) if synthetic else None
    made = build_classifier(chosen.architecture, 2, [0.5] * 3, [0.25] * 3, 0)
    torch.nn.init.normal_(made.head.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    batches = Batches(images, extra, chosen.mix, chosen.schedule.batch, 0)
    return Engine(chosen, "r", made, batches, 0, CPU, Workers())


def job(chosen: Recipe, shards, out, scratch, cache) -> Job:
    places = {"real": shards, "synthetic": None, "initial": None, "out": out, "scratch": scratch, "cache": cache}
    return Job(recipe=chosen, name="r", seed=0, device="cpu", **places)


def test_parts_of_a_batch_add_up_to_the_batch(shards, tmp_path):
    """Without BatchNorm, whose statistics are those of a part, four parts give the gradients of the whole."""
    whole, parts = (
        engine(recipe(schedule={"epochs": 1, "batch": 16, "lr": 0.1, "accumulate": n}), shards, tmp_path)
        for n in (1, 4)
    )
    for step in range(2):
        a, b = whole.step(step)[0], parts.step(step)[0]
        assert a == pytest.approx(b, rel=1e-5)
    for x, y in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)  # a sign may turn on rounding


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_takes_the_same_steps(shards, tmp_path):
    """With BatchNorm, whose statistics and gradients are switched off and on between the passes of a step."""
    network = {"family": "preact_resnet", "widths": [8, 16], "blocks": [1, 1], "stem_stride": 2}
    plain, compiled = (
        engine(recipe(architecture=network, loss="trades", compile=choice), shards, tmp_path)
        for choice in (False, True)
    )
    for step in range(2):
        assert compiled.step(step)[0] == pytest.approx(plain.step(step)[0], rel=1e-4)
    for x, y in zip(plain.model.state_dict().values(), compiled.model.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)  # a sign may turn on rounding


def test_two_processes_equal_one(shards, folders, recorder_type):
    """DDP over gloo: the same losses, and weights that differ by rounding only."""
    chosen = recipe(augmentation={"mixing": {"method": "cutmix"}})
    found = {}
    for processes in (1, 2):
        out, scratch, cache = folders(f"out-{processes}", f"scratch-{processes}", "cache")
        monitor = recorder_type()
        if processes == 1:
            train_classifier(chosen, "r", shards, None, None, 0, out, scratch, cache, CPU, monitor)
        else:
            summary = train_in(processes, job(chosen, shards, out, scratch, cache), monitor)
            assert summary.figures["steps"] == 6
            assert monitor.calls == 6
            assert any("loss" in values for _, values in monitor.points)
        found[processes] = (load_file(out / "model.safetensors"), json.loads((out / "history.json").read_text()))
    for name, value in found[1][0].items():
        torch.testing.assert_close(value, found[2][0][name], rtol=1e-4, atol=1e-5, msg=name)
    one, two = ([point["loss"] for point in found[count][1]["steps"]] for count in (1, 2))
    assert len(one) > 1
    assert two == pytest.approx(one, rel=1e-4), "the loss of the whole batch, not of a process's rows"
    assert found[1][0]["head.weight"].abs().max() > 0, "the last layer starts at zero"


def test_a_mistake_in_a_process_reaches_the_user(shards, folders, recorder):
    out, scratch, cache = folders("out", "scratch", "cache")
    uneven = recipe(schedule={"epochs": 1, "batch": 15, "lr": 0.1})
    with pytest.raises(AmalgamError, match="cannot be shared by 2 processes") as error:
        train_in(2, job(uneven, shards, out, scratch, cache), recorder)
    assert "multiple of 2" in error.value.remedy


def test_free_training_is_the_published_loop(shards, tmp_path):
    """Algorithm 1 of Shafahi et al. by plain autograd on a twin: same weights and perturbation after two batches."""
    chosen = recipe(
        loss="free",
        replays=3,
        augmentation={"crop": 0, "flip": False},
        schedule={
            "epochs": 1,
            "batch": 16,
            "lr": 0.1,
            "shape": "constant",
            "warmup": 0,
            "momentum": 0,
            "weight_decay": 0,
        },
    )
    ours, twin = engine(chosen, shards, tmp_path), engine(chosen, shards, tmp_path).model.train()
    eps, delta = chosen.threat.eps, torch.zeros(16, 3, 32, 32)
    for step in range(6):
        ours.step(step)
        x, y = ours.batches.at(step // 3)
        perturbed = (x + delta).clamp(0, 1).requires_grad_(True)
        loss = -(y * twin(perturbed).log_softmax(1)).sum(1).mean()
        twin.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in twin.parameters():
                p.sub_(0.1 * p.grad)
            delta = ((perturbed + eps * perturbed.grad.sign()).clamp(0, 1) - x).clamp(-eps, eps)
    for a, b in zip(ours.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert ours.free is not None
    agree = (ours.free.delta - delta).abs() < 1e-5
    assert agree.float().mean() > 0.99, "the sign of a gradient near 0 may turn on rounding"


def test_smoothing_is_on_generated_rows_only(shards, synthetic, tmp_path):
    images, extra = (open_images(folder, "train", tmp_path) for folder in (shards, synthetic))
    x, y = Batches(images, extra, Mix(real_fraction=0.25, label_smoothing=0.2), 16, 0).at(0)
    assert x.shape == (16, 3, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    hard = (y.amax(1) == 1).sum()
    assert hard == 4
    torch.testing.assert_close(y[y.amax(1) < 1].sort(1).values, torch.tensor([[0.1, 0.9]]).expand(12, 2))
    known = {image.tobytes() for image in images.images}
    real = [(row.permute(1, 2, 0) * 255).round().byte().numpy().tobytes() in known for row in x]
    assert [bool(r) for r in real] == [bool(v) for v in y.amax(1) == 1]


def test_classes_must_agree(shards, synthetic, tmp_path):
    images, extra = (open_images(folder, "train", tmp_path) for folder in (shards, synthetic))
    other = type(extra)(extra.images, extra.labels, extra.table, ("bar", "cube"))
    with pytest.raises(AmalgamError, match="bar, cube"):
        Batches(images, other, Mix(real_fraction=0.5), 16, 0)


def test_architectures_are_free(shards, tmp_path):
    for architecture in (
        Architecture(family="wide_resnet", depth=10, width=1),
        Architecture(widths=[4, 8], blocks=[1, 1]),
    ):
        loss, _ = engine(recipe(architecture=architecture), shards, tmp_path).step(0)
        assert loss > 0
