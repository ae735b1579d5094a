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
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.train.averager import Averager
from ops.train.averaging import ramped_decay, update_average
from ops.train.batchnorm import frozen_statistics, ramp_statistics
from ops.train.inner import inner_attack, starting_point
from ops.train.losses import soft_cross_entropy
from ops.train.mixing import real_count, shuffled
from ops.train.rates import rate_factor
from ops.train.recipe import Averaging, InnerAttack, Recipe, Schedule
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
    layer = made.blocks[0].norm1.norm
    for step in range(60):
        ramp_statistics(made, step)
        made(x)
    expected = made.stem((x - made.mean) / made.std).mean(dim=(0, 2, 3))
    torch.testing.assert_close(layer.running_mean, expected, rtol=1e-4, atol=1e-5)
    ramp_statistics(made, 10_000)
    assert layer.momentum == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("threat", "rule"),
    [
        (Threat(norm="linf", eps=8 / 255), "steepest"),
        (Threat(norm="linf", eps=8 / 255), "adam"),
        (Threat(norm="l2", eps=0.5), "steepest"),
        (Threat(norm="l2", eps=0.5), "adam"),
        (Threat(norm="l1", eps=8), "steepest"),
    ],
    ids=str,
)
def test_inner_attack_raises_the_loss_inside_the_ball_and_leaves_the_model_alone(threat, rule):
    made, x = model().train(), images()
    with torch.no_grad(), frozen_statistics(made):
        targets = made(x).softmax(1)
    before, rng = statistics(made), torch.Generator().manual_seed(0)
    config = InnerAttack(steps=10, step_size=0.25, rule=rule)
    found = inner_attack(made, x, starting_point(x, threat, config, rng), targets, threat, config)
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
            live.blocks[0].norm1.norm.running_mean.add_(1)
        tau = min(0.995, (1 + step) / (10 + step))
        update_average(average, live, 0.995, step)
        for name, p in live.named_parameters():
            expected[name] = tau * expected[name] + (1 - tau) * p.detach()
    for name, p in average.named_parameters():
        torch.testing.assert_close(p, expected[name])
    assert torch.equal(average.blocks[0].norm1.norm.running_mean, live.blocks[0].norm1.norm.running_mean)
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


def test_recipes_refuse_steps_that_cross_the_ball():
    with pytest.raises(ValueError, match="units of eps"):
        Recipe(schedule={"epochs": 1}, attack={"step_size": 8.0})


def test_schedules_by_hand():
    def factors(**changes):
        return [rate_factor(Schedule(epochs=1, **changes), step, 12) for step in range(12)]

    piecewise = factors(shape="piecewise", warmup=0, drops=[0.5, 0.75])
    assert piecewise == pytest.approx([1] * 6 + [0.1] * 3 + [0.01] * 3)
    assert factors(shape="constant", warmup=0.25) == pytest.approx([1 / 3, 2 / 3] + [1] * 10)
    assert factors(shape="one_cycle", warmup=1 / 3)[3:] == pytest.approx([1, *(1 - k / 8 for k in range(8))])
    falling = [0.5 * (1 + math.cos(math.pi * k / 9)) for k in range(9)]
    assert factors(warmup=0.25) == pytest.approx([1 / 3, 2 / 3, 1, *falling])
    assert factors(warmup=0)[0] == 1
    assert factors(warmup=0)[1] < 1, "no rise takes no step"


def shifted(live, step: int) -> None:
    """Change every weight and BatchNorm statistic, as a step of training would."""
    with torch.no_grad():
        for number, p in enumerate(live.parameters()):
            p.add_(math.sin(step + number))
        for b in live.buffers():
            if b.is_floating_point():
                b.add_(0.1 * (step + 1))


@pytest.mark.parametrize("statistics", ["live", "averaged"])
def test_swa_is_the_mean_of_its_snapshots(statistics):
    """20 steps of 4 an epoch, from the middle on: snapshots at the ends of the epochs, after steps 13 and 17."""
    average, live = model(0), model(1)
    averager = Averager(Averaging(method="swa", start=0.5, every=1, statistics=statistics), 20, 4)
    snapshots = []
    for step in range(20):
        shifted(live, step)
        averager.update(average, live, step)
        if step == 9:
            assert torch.equal(average.head.weight, live.head.weight), "the live model, before the first snapshot"
        if step in (13, 17):
            snapshots.append({k: v.clone() for k, v in live.state_dict().items()})
    for name, value in average.named_parameters():
        torch.testing.assert_close(value, (snapshots[0][name] + snapshots[1][name]) / 2, rtol=1e-5, atol=1e-5)
    running = {n: b for n, b in average.named_buffers() if "running" in n}
    for name, value in running.items():
        expected = snapshots[1][name] if statistics == "live" else (snapshots[0][name] + snapshots[1][name]) / 2
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


def test_no_averaging_is_the_live_model():
    average, live = model(0), model(1)
    averager = Averager(Averaging(method="none"), 5, 2)
    for step in range(5):
        shifted(live, step)
        averager.update(average, live, step)
    assert all(
        torch.equal(a, b) for a, b in zip(average.state_dict().values(), live.state_dict().values(), strict=True)
    )


def test_an_average_of_constant_weights_is_the_constant():
    average, live = model(1), model(1)
    averager = Averager(Averaging(decay=0.99), 50, 5)
    for step in range(50):
        averager.update(average, live, step)
    for a, b in zip(average.parameters(), live.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(average.buffers(), live.buffers(), strict=True))


def test_wide_starts_without_projection_are_n_fgsm():
    """x + eta + eps sign(g) with eta uniform in the ball of 2 eps, clipped to [0, 1] only (de Jorge et al., algorithm 1)."""
    made, x = model().train(), images() * 0.5 + 0.25
    threat = Threat(norm="linf", eps=8 / 255)
    config = InnerAttack(steps=1, step_size=1, noise=2, project=False)
    start = starting_point(x, threat, config, torch.Generator().manual_seed(3))
    eta = (start - x).abs()
    assert threat.eps < eta.max() <= 2 * threat.eps + 1e-6
    targets = torch.eye(3)[torch.arange(12) % 3]
    point = start.clone().requires_grad_(True)
    with frozen_statistics(made):
        soft_cross_entropy(made(point), targets).sum().backward()
    expected = (start + threat.eps * point.grad.sign()).clamp(0, 1)
    found = inner_attack(made, x, start, targets, threat, config)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - x).abs().max() > threat.eps * 1.5


def test_recipes_refuse_what_does_not_fit_together():
    for changes, message in (
        ({"loss": "mart", "augmentation": {"mixing": {"method": "cutmix"}}}, "labels that are not mixed"),
        ({"threat": {"norm": "l1", "eps": 12}, "attack": {"rule": "adam"}}, "no attack in L1"),
        ({"schedule": {"epochs": 1, "batch": 10, "accumulate": 3}}, "no multiple"),
        ({"schedule": {"epochs": 1, "batch": 4, "accumulate": 4}}, "BatchNorm needs two"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate({"schedule": {"epochs": 1}} | changes)
