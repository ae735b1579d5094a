"""Winograd's convolution against a direct one in double precision."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.models.kernels import winograd as kernels
from ops.models.resnet import Conv
from ops.models.transformed import kept_kernels
from ops.models.winograd import convolve_tiles, fits, winograd

NARROW = 16
"""Channels enough for a test of the arithmetic."""


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def outcome(convolve, x, weight, direction, stride=1):
    """The output and both gradients of its product with `direction`."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convolve(x, weight, stride)
    return [y.detach(), *torch.autograd.grad((y * direction).sum(), [x, weight])]


def direct(x, weight, stride):
    if stride == 1:
        return F.conv2d(x, weight, padding=1)
    return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2)


@settings(max_examples=80, deadline=None)
@given(
    stride=st.sampled_from([1, 2]),
    count=st.integers(1, 5),
    channels=st.sampled_from([16, 32, 48]),
    out=st.sampled_from([16, 32, 48]),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    seed=st.integers(0, 5),
)
def test_it_is_a_convolution_and_so_are_its_gradients(stride, count, channels, out, height, width, seed):
    """Sides are those of the output."""
    x = drawn(count, channels, stride * height, stride * width, seed=seed)
    weight, direction = drawn(out, channels, 3, 3, seed=seed + 1), drawn(count, out, height, width, seed=seed + 2)
    found = outcome(winograd, x, weight, direction, stride)
    expected = outcome(direct, x.double(), weight.double(), direction.double(), stride)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a.double(), b, rtol=0, atol=5e-5 * float(b.abs().max()) + 1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_many_images_are_convolved_in_rounds(stride):
    """More tiles than threads take at once, the last ones fewer."""
    x, weight, direction = (
        drawn(75, NARROW, 16, 16),
        drawn(NARROW, NARROW, 3, 3, seed=1),
        drawn(75, NARROW, 16 // stride, 16 // stride, seed=2),
    )
    found = outcome(winograd, x, weight, direction, stride)
    expected = outcome(direct, x.double(), weight.double(), direction.double(), stride)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=5e-5 * float(b.abs().max()))


@pytest.mark.parametrize("stride", [1, 2])
def test_an_image_is_the_same_in_any_batch_to_the_last_bit(stride):
    """Wide kernels, which more tiles share, and narrow ones."""
    for channels, out in ((16, 48), (1024, 512)):
        x, weight = drawn(33, channels, 8, 8), drawn(out, channels, 3, 3, seed=1)
        direction = drawn(33, out, 8 // stride, 8 // stride, seed=2)
        whole = outcome(winograd, x, weight, direction, stride)[:2]
        for some in (slice(0, 1), slice(5, 12), slice(20, 33)):
            part = outcome(winograd, x[some], weight, direction[some], stride)[:2]
            assert all(torch.equal(a[some], b) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
def test_only_the_tiles_that_are_asked_for_are_computed(stride):
    x, weight = drawn(5, 32, 12 * stride, 12 * stride), drawn(64, 32, 3, 3, seed=1)
    expected, y = winograd(x, weight, stride), torch.full((5, 64, 12, 12), 7.0).to(memory_format=torch.channels_last)
    convolve_tiles(x, weight, y, np.array([4, 9, 26]), stride)
    asked = torch.zeros(5, 1, 12, 12, dtype=torch.bool)
    asked[0, :, 4:8, 4:8] = asked[1, :, :4, :4] = asked[2, :, 8:, 8:] = True
    assert torch.equal(y, torch.where(asked, expected, 7.0))


def test_channels_that_fill_no_vector_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        winograd(drawn(4, 24, 8, 8), drawn(32, 24, 3, 3))


def test_on_the_sizes_of_training_the_error_is_small():
    x, weight = drawn(64, 128, 16, 16), drawn(128, 128, 3, 3, seed=1)
    direction = drawn(64, 128, 16, 16, seed=2)
    found = outcome(winograd, x, weight, direction)
    expected = outcome(direct, x.double(), weight.double(), direction.double())
    for a, b in zip(found, expected, strict=True):
        error = (a.double() - b).square().mean().sqrt() / b.square().mean().sqrt()
        assert error < 1e-5


@pytest.mark.parametrize(("memory", "transforms"), [(2**30, 2), (4 * 36 * NARROW**2, 4), (0, 6)])
def test_kept_kernels_are_transformed_once_if_there_is_memory_for_them(monkeypatch, memory, transforms):
    """The memory of two kernels, of one, and of none, in three rounds of output and gradient."""
    x, weight, direction = drawn(9, NARROW, 9, 9), drawn(NARROW, NARROW, 3, 3, seed=1), drawn(9, NARROW, 9, 9, seed=2)
    expected = outcome(winograd, x, weight, direction)[:2]
    done, transform = [], kernels.transform_taps

    def counted(kind, *given):
        done.append(kind)
        transform(kind, *given)

    monkeypatch.setattr("ops.models.transformed.KEPT_BYTES", memory)
    monkeypatch.setattr(kernels, "transform_taps", counted)
    x.requires_grad_()
    with kept_kernels():
        for _ in range(3):
            with kept_kernels():
                y = winograd(x, weight)
            found = y.detach(), *torch.autograd.grad((y * direction).sum(), x)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert len(done) == transforms
    weight.mul_(2)
    torch.testing.assert_close(winograd(x, weight).detach(), 2 * expected[0])


def test_a_kept_kernel_is_transformed_again_when_its_weight_changes():
    x, weight = drawn(9, NARROW, 9, 9), drawn(NARROW, NARROW, 3, 3, seed=1)
    with kept_kernels():
        before = winograd(x, weight).detach()
        weight.mul_(2)
        torch.testing.assert_close(winograd(x, weight).detach(), 2 * before)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_number_of_threads_does_not_matter(stride):
    x, weight = drawn(90, 64, 8, 8), drawn(64, 64, 3, 3, seed=1)
    direction = drawn(90, 64, 8 // stride, 8 // stride, seed=2)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(outcome(winograd, x, weight, direction, stride))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_nan_is_not_hidden():
    x = drawn(2, NARROW, 8, 8)
    x[1, 3, 4, 4] = torch.nan
    y = winograd(x, drawn(NARROW, NARROW, 3, 3))
    assert y[1, :, 4, 4].isnan().all()
    assert y[0].isfinite().all()


@pytest.mark.parametrize(
    ("conv", "x", "what"),
    [
        (Conv(128, 128, stride=3), drawn(64, 128, 9, 9), "a stride"),
        (Conv(128, 128, stride=2), drawn(64, 128, 9, 8), "odd sides in stride 2"),
        (Conv(128, 128, kernel=1), drawn(64, 128, 8, 8), "another kernel"),
        (Conv(32, 24), drawn(64, 32, 8, 8), "outputs that fill no vector"),
        (Conv(3, 32), drawn(64, 3, 8, 8), "channels that fill no vector"),
        (nn.Conv2d(128, 128, 3, bias=False), drawn(64, 128, 8, 8), "no padding"),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1, bias=False), drawn(64, 128, 8, 8), "another padding in stride 2"),
        (Conv(128, 128), drawn(64, 128, 8, 8).contiguous(), "another layout"),
        (Conv(128, 128).double(), drawn(64, 128, 8, 8).double(), "double precision"),
        (Conv(128, 128), drawn(1, 128, 8, 8), "few pixels"),
        (nn.Conv2d(128, 128, 3, padding=1), drawn(64, 128, 8, 8), "a bias"),
        (nn.Conv2d(128, 128, 3, padding=1, groups=2, bias=False), drawn(64, 128, 8, 8), "groups"),
        (nn.Conv2d(128, 128, 3, padding=2, dilation=2, bias=False), drawn(64, 128, 8, 8), "dilation"),
    ],
)
def test_what_it_does_not_fit(conv, x, what):
    assert not fits(conv, x), what


@pytest.mark.parametrize("stride", [1, 2])
def test_the_layer_uses_it(stride):
    conv, x = Conv(128, 160, stride=stride).to(memory_format=torch.channels_last), drawn(64, 128, 8, 8)
    assert fits(conv, x)
    y = conv(x.requires_grad_())
    assert "_Winograd" in y.grad_fn.name()
    torch.testing.assert_close(y, direct(x, conv.weight, stride), rtol=0, atol=1e-4)


def test_half_precision_stays_half_precision():
    conv, x = Conv(128, 128).to(memory_format=torch.channels_last), drawn(64, 128, 8, 8)
    assert fits(conv, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fits(conv, x)
        assert conv(x).dtype == torch.bfloat16


def test_a_wide_network_uses_it_and_gives_the_same_logits():
    architecture = Architecture(widths=[96, 96], blocks=[1, 1], stem_stride=1)
    model = build_classifier(architecture, 3, [0.5] * 3, [0.25] * 3, 0).to(memory_format=torch.channels_last)
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
    used = [m for m in model.modules() if isinstance(m, Conv) and m.stride == (1, 1) and m.in_channels == 96]
    assert len(used) == 3
    assert "_Winograd" in used[0](drawn(16, 96, 16, 16).requires_grad_()).grad_fn.name()
    exact = copy.deepcopy(model).double()
    for mode in (model.train, model.eval):
        exact.train(mode().training)
        torch.testing.assert_close(model(x).double(), exact(x.double()), rtol=1e-4, atol=1e-4)
