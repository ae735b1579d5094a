"""The first convolution against the same in double precision, by torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models import stem
from ops.models.blocks import statistics
from ops.models.config import Architecture
from ops.models.frozen import frozen_parameters
from ops.models.schemes import STEP, count_tiles
from tests.ops.models.drawn import network, photographs


def narrow(channels: int, stride: int) -> nn.Module:
    model = network(Architecture(widths=[channels], blocks=[1], stem_stride=stride))
    model.mean.copy_(torch.tensor([0.2, 0.5, 0.7])[None, :, None, None])
    model.std.copy_(torch.tensor([0.1, 0.3, 0.9])[None, :, None, None])
    return model


def precise(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The map by the definition of SAME, in double precision."""
    pixels = (x - model.mean.double()) / model.std.double()
    stride, missing = model.stem.stride[0], []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + 3 - side, 0)
        missing += [total // 2, total - total // 2]
    return F.conv2d(F.pad(pixels, missing), model.stem.weight.double(), stride=stride)


cases = given(
    channels=st.sampled_from([16, 32, 48]),
    stride=st.sampled_from([1, 2]),
    count=st.integers(1, 5),
    height=st.integers(3, 19),
    width=st.integers(3, 19),
    seed=st.integers(0, 99),
)


@settings(max_examples=60, deadline=None)
@cases
def test_the_map_and_the_gradient_of_the_images_are_those_of_the_definition(
    channels, stride, count, height, width, seed
):
    model, x = narrow(channels, stride), photographs(count, height, width, seed)
    with frozen_parameters(model):
        assert stem.fits(model, x)
        x = x.requires_grad_()
        found = stem.map_images(model, x)
        weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed))
        (gradient,) = torch.autograd.grad((weights * found).sum(), x)
    twin = x.detach().double().requires_grad_()
    expected = precise(model, twin)
    (expected_gradient,) = torch.autograd.grad((weights.double() * expected).sum(), twin)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))
    torch.testing.assert_close(
        gradient.double(), expected_gradient, rtol=0, atol=1e-5 * float(expected_gradient.abs().max())
    )


@settings(max_examples=60, deadline=None)
@cases
def test_chosen_tiles_are_those_of_the_whole_map_and_no_others_are_touched(
    channels, stride, count, height, width, seed
):
    model, x = narrow(channels, stride), photographs(count, height, width, seed)
    expected = precise(model, x.double())
    high, across = expected.shape[2:]
    rng = np.random.default_rng(seed)
    chosen = rng.random((count, -(-high // STEP), -(-across // STEP))) < 0.5
    assert chosen.size == count * count_tiles(high, across)
    made, active = (torch.full(expected.shape, 7.0).contiguous(memory_format=torch.channels_last) for _ in range(2))
    norm = model.blocks[0].norm1
    with torch.no_grad():
        stem.map_tiles(model, x, np.flatnonzero(chosen), made, active, statistics(norm))
        after = F.silu(norm.norm.double()(expected))
    here = torch.from_numpy(chosen.repeat(STEP, 1).repeat(STEP, 2)[:, :high, :across])[:, None]
    for found, whole in ((made, expected), (active, after)):
        wanted = torch.where(here, whole, torch.full_like(whole, 7))
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * float(whole.detach().abs().max()))


def test_an_image_is_the_same_in_any_batch_and_on_any_number_of_threads():
    model, x = narrow(32, 1), photographs(9, 13, 16)

    def outcome(x: torch.Tensor) -> list[torch.Tensor]:
        x = x.detach().requires_grad_()
        mapped = stem.map_images(model, x)
        return [mapped.detach(), *torch.autograd.grad(mapped.square().sum(), x)]

    threads = torch.get_num_threads()
    with frozen_parameters(model):
        whole = outcome(x)
        for a, b in zip(whole, outcome(x[2:5]), strict=True):
            assert torch.equal(a[2:5], b)
        torch.set_num_threads(1)
        try:
            for a, b in zip(whole, outcome(x), strict=True):
                assert torch.equal(a, b)
        finally:
            torch.set_num_threads(threads)


def test_a_weight_that_changes_is_read_again():
    model, x = narrow(16, 2), photographs(2, 8, 8)
    with frozen_parameters(model):
        for _ in range(2):
            pixels = x.detach().requires_grad_()
            (found,) = torch.autograd.grad(stem.map_images(model, pixels).sum(), pixels)
            twin = x.double().requires_grad_()
            (expected,) = torch.autograd.grad(precise(model, twin).sum(), twin)
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
            model.stem.weight.mul_(-3)


@pytest.mark.parametrize("what", ["weights learn", "channels come first", "a hook watches", "double precision"])
def test_what_does_not_fit_is_left_to_torch(what):
    model, x = narrow(16, 1), photographs(2, 8, 8)
    if what == "channels come first":
        x = x.contiguous()
    elif what == "double precision":
        model, x = model.double(), x.double()
    elif what == "a hook watches":
        model.stem.register_forward_hook(lambda *_: None)
    model.requires_grad_(what == "weights learn")
    assert not stem.fits(model, x)
    x = x.requires_grad_()
    (found,) = torch.autograd.grad(model(x).logsumexp(dim=1).sum(), x)
    twin = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(model.double()(twin).logsumexp(dim=1).sum(), twin)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
