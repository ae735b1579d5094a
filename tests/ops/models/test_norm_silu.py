"""The operation for norm and activation together, against the two in double precision."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models.norm_silu import fits, norm_silu
from ops.models.resnet import NormAct


def layer(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=0.1)
    rng = torch.Generator().manual_seed(seed)
    nn.init.uniform_(norm.weight, -1.5, 1.5, generator=rng)
    nn.init.normal_(norm.bias, generator=rng)
    return norm


def images(*shape: int, mean: float = 0.5, spread: float = 2.0, seed: int = 1) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread + mean
    return x.contiguous(memory_format=torch.channels_last)


def outcome(norm, x, direction, together: bool):
    """The output and all gradients of its product with `direction`."""
    norm, x = copy.deepcopy(norm), x.clone().requires_grad_()
    y = norm_silu(norm, x) if together else F.silu(norm(x))
    gradients = torch.autograd.grad((y * direction).sum(), [x, norm.weight, norm.bias])
    return [y.detach(), *gradients, norm.running_mean, norm.running_var, norm.num_batches_tracked]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 5),
    channels=st.integers(1, 37),
    height=st.integers(1, 9),
    width=st.integers(2, 9),
    mean=st.sampled_from([0.0, -3.0, 50.0]),
    seed=st.integers(0, 5),
)
def test_it_is_norm_then_activation(count, channels, height, width, mean, seed):
    norm, x = layer(channels, seed), images(count, channels, height, width, mean=mean, seed=seed)
    direction = images(count, channels, height, width, seed=seed + 1)
    assert fits(norm, x)
    found = outcome(norm, x, direction, together=True)
    expected = outcome(norm.double(), x.double(), direction.double(), together=False)
    # gradients grow with the inverse of the deviation, and so does what float32 rounds away; a far mean costs digits, too
    reach = 2e-4 * max(1.0, abs(mean) / 10) * max(1.0, float(1 / x.double().std(dim=(0, 2, 3), correction=0).min()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2e-4, atol=reach)


def test_large_layers_are_as_exact_as_the_two_operations():
    """On the sizes of training, the error against double precision is no larger than that of torch's float32."""
    norm, x, direction = layer(32), images(64, 32, 16, 16), images(64, 32, 16, 16, seed=2)
    exact = outcome(copy.deepcopy(norm).double(), x.double(), direction.double(), together=False)
    ours, theirs = (outcome(norm, x, direction, together=choice) for choice in (True, False))
    for a, b, truth in list(zip(ours, theirs, exact, strict=True))[:-1]:
        apart = (a.double() - truth).abs().max()
        assert apart <= 2 * (b.double() - truth).abs().max() + 1e-6 * truth.abs().max()


def test_extreme_values_saturate():
    norm = nn.BatchNorm2d(1, affine=True)
    nn.init.constant_(norm.weight, 100.0)
    x = images(2, 1, 8, 8)
    found, expected = norm_silu(norm, x), F.silu(copy.deepcopy(norm).double()(x.double()))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


def test_nan_is_not_hidden():
    x = images(2, 3, 4, 4)
    x[0, 1, 2, 2] = torch.nan
    y = norm_silu(layer(3), x)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


def test_frozen_statistics_stay_and_the_number_of_threads_does_not_matter():
    norm, x = layer(24), images(7, 24, 6, 6)
    norm.track_running_stats = False
    before, threads, found = copy.deepcopy(norm.state_dict()), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(outcome(norm, x, images(7, 24, 6, 6, seed=3), together=True))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda norm, x: (norm.eval(), x), "running statistics and parameters that learn"),
        (lambda norm, x: (nn.BatchNorm2d(3, affine=False).eval(), x), "no parameters"),
        (lambda norm, x: (nn.BatchNorm2d(3, track_running_stats=False).eval(), x), "no running statistics"),
        (lambda norm, x: (norm, x.double()), "double precision"),
        (lambda norm, x: (norm, x.bfloat16()), "half precision"),
        (lambda norm, x: (norm, x.contiguous()), "another layout"),
        (lambda norm, x: (norm, x[:1, :, :1, :1]), "one value for each channel"),
    ],
)
def test_what_it_does_not_fit(change, what):
    norm, x = change(layer(3), images(4, 3, 5, 5))
    assert not fits(norm, x), what


def test_an_activation_of_another_kind_is_left_alone():
    silu, relu = NormAct(4, "silu").train(), NormAct(4, "relu").train()
    x = images(3, 4, 5, 5)
    assert "_NormSilu" in silu(x.requires_grad_()).grad_fn.name()
    torch.testing.assert_close(relu(x), F.relu(F.batch_norm(x, None, None, training=True)))
    assert np.isfinite(silu(x).detach().numpy()).all()


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 5),
    channels=st.integers(1, 37),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_in_evaluation_it_is_the_same(count, channels, height, width, seed):
    norm, x = layer(channels, seed).eval().requires_grad_(False), images(count, channels, height, width, seed=seed)
    nn.init.normal_(norm.running_mean, generator=torch.Generator().manual_seed(seed))
    nn.init.uniform_(norm.running_var, 0.1, 3.0, generator=torch.Generator().manual_seed(seed))
    direction, before = images(count, channels, height, width, seed=seed + 1), copy.deepcopy(norm.state_dict())
    assert fits(norm, x)
    x.requires_grad_()
    y = norm_silu(norm, x)
    (gradient,) = torch.autograd.grad((y * direction).sum(), x)
    exact = x.detach().double().requires_grad_()
    expected = F.silu(copy.deepcopy(norm).double()(exact))
    (slope,) = torch.autograd.grad((expected * direction.double()).sum(), exact)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
