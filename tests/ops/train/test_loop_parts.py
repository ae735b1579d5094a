"""The parts of a training step, each against its formula."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.attack.projections import norm_of
from ops.attack.threat import Threat
from ops.models.config import Architecture
from ops.models.resnet import build_classifier
from ops.train.augmentation import augment
from ops.train.averaging import ramped_decay, update_average
from ops.train.batchnorm import frozen_statistics, ramp_statistics
from ops.train.inner import inner_attack
from ops.train.losses import soft_cross_entropy
from ops.train.mixing import real_count, shuffled
from ops.train.recipe import Augmentation, InnerAttack, Recipe
from ops.train.schedule import warmup_cosine

SMALL = Architecture(widths=[8, 16], blocks=[1, 1])


def model(seed: int = 0):
    made = build_classifier(SMALL, 3, [0.5] * 3, [0.25] * 3, seed)
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(seed))
    return made


def images(count: int = 12, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def statistics(made) -> list[torch.Tensor]:
    return [b.clone() for n, b in made.named_buffers() if "running" in n or "num_batches" in n]


def test_frozen_statistics_use_the_batch_and_change_nothing():
    made, x = model().train(), images()
    before = statistics(made)
    with frozen_statistics(made), torch.no_grad():
        frozen = made(x)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(made), strict=True))
    with torch.no_grad():
        live = made(x)
    torch.testing.assert_close(frozen, live)
    assert not all(torch.equal(a, b) for a, b in zip(before, statistics(made), strict=True))


def test_running_statistics_are_right_after_few_steps():
    """After 60 steps on the same batch they are that batch's; torch's fixed momentum of 0.01 would be half way."""
    made, x = model().train(), images()
    layer = made.blocks[0].norm1
    for step in range(60):
        ramp_statistics(made, step)
        made(x)
    expected = made.stem((x - made.mean) / made.std).mean(dim=(0, 2, 3))
    torch.testing.assert_close(layer.running_mean, expected, rtol=1e-4, atol=1e-5)
    ramp_statistics(made, 10_000)
    assert layer.momentum == pytest.approx(0.01)


@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5)], ids=str)
def test_inner_attack_raises_the_loss_inside_the_ball_and_leaves_the_model_alone(threat):
    made, x = model().train(), images()
    with torch.no_grad(), frozen_statistics(made):
        targets = made(x).softmax(1)
    before, rng = statistics(made), torch.Generator().manual_seed(0)
    found = inner_attack(made, x, targets, threat, InnerAttack(steps=10, step_size=0.25), rng)
    assert norm_of(found - x, threat).max() <= threat.eps * (1 + 1e-4)
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad(), frozen_statistics(made):
        risen = soft_cross_entropy(made(found), targets).mean()
        clean = soft_cross_entropy(made(x), targets).mean()
    assert risen > clean + 0.01
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(made), strict=True))
    assert all(p.grad is None for p in made.parameters())


def test_weight_average_is_the_recursion():
    average, live = model(0), model(1)
    expected = {n: p.detach().clone() for n, p in average.named_parameters()}
    for step in range(4):
        with torch.no_grad():
            for p in live.parameters():
                p.mul_(0.9).add_(0.01)
            live.blocks[0].norm1.running_mean.add_(1)
        tau = min(0.995, (1 + step) / (10 + step))
        update_average(average, live, 0.995, step)
        for name, p in live.named_parameters():
            expected[name] = tau * expected[name] + (1 - tau) * p.detach()
    for name, p in average.named_parameters():
        torch.testing.assert_close(p, expected[name])
    assert torch.equal(average.blocks[0].norm1.running_mean, live.blocks[0].norm1.running_mean)
    assert ramped_decay(0.995, 10_000) == 0.995


@settings(max_examples=60, deadline=None)
@given(batch=st.integers(2, 1024), fraction=st.floats(0, 1))
def test_a_mixed_batch_has_both_kinds(batch, fraction):
    """clip(round(B alpha), 1, B - 1), and exactly all or none at the ends."""
    n = real_count(batch, fraction)
    if fraction in (0.0, 1.0):
        assert n == fraction * batch
    else:
        assert n == int(np.clip(round(batch * fraction), 1, batch - 1))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 40), count=st.integers(1, 25), step=st.integers(0, 60))
def test_epochs_see_every_image_once(size, count, step):
    """Any cut of the endless sequence is the same as walking it from the start, and each epoch is a permutation."""
    length = (step + 1) * count
    walked = np.concatenate([shuffled(s * count, count, size, 3, "x") for s in range(step + 1)])
    for epoch in range(length // size):
        assert sorted(walked[epoch * size : (epoch + 1) * size]) == list(range(size))
    assert (shuffled(step * count, count, size, 3, "x") == walked[step * count :]).all()


def test_schedule_rises_then_falls_to_zero():
    values = [warmup_cosine(s, 100, 0.1) for s in range(100)]
    assert values[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert values[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert values[-1] < 0.001
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))


def test_crops_are_windows_of_the_padded_image():
    """Every result is found, by brute force, among all crops and mirrored crops."""
    x = images(5, 6)
    found = augment(x, Augmentation(crop=2, padding="zeros", flip=True), torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, [2] * 4)
    for n in range(5):
        windows = [padded[n, :, i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
        assert any(torch.equal(found[n], w) or torch.equal(found[n], w.flip(2)) for w in windows)
    same = augment(x, Augmentation(crop=2, padding="zeros", flip=True), torch.Generator().manual_seed(1))
    assert torch.equal(found, same)
    assert torch.equal(augment(x, Augmentation(crop=0, flip=False), torch.Generator()), x)


def test_half_of_the_images_are_mirrored():
    x = images(400, 4)
    found = augment(x, Augmentation(crop=0, flip=True), torch.Generator().manual_seed(0))
    mirrored = sum(torch.equal(a, b.flip(2)) for a, b in zip(found, x, strict=True))
    assert 160 < mirrored < 240


def test_recipes_refuse_steps_that_cross_the_ball():
    with pytest.raises(ValueError, match="units of eps"):
        Recipe(schedule={"epochs": 1}, attack={"step_size": 8.0})
