"""Winograd's convolution against a direct one in double precision."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models import winograd as winograd_module
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.models.kernels import winograd as kernels
from ops.models.resnet import Conv
from ops.models.winograd import fits, kept_kernels, winograd

NARROW = 8
"""Channels enough for a test of the arithmetic, which does not ask whether it pays."""


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
    channels=st.integers(1, 19),
    out=st.integers(1, 19),
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
    """More tiles than one round takes, the last round not full."""
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
def test_kernels_have_the_form_that_the_library_wants_for_so_many_tiles(monkeypatch, stride):
    """With another one products are right, but hundreds of times slower."""

    def form(kernel):
        return torch.ops.mkldnn._get_mkldnn_serialized_md(kernel).tolist()

    checked = []

    def products(points, kernel):
        tiles, groups, channels = points.shape
        out = kernel.shape[0] // groups
        assert form(kernel) == form(winograd_module._pack(torch.zeros(groups, out, channels), tiles))
        checked.append(tiles)
        return multiply(points, kernel)

    multiply = winograd_module._products
    monkeypatch.setattr(winograd_module, "_products", products)
    weight = drawn(96, 64, 3, 3)
    with kept_kernels():
        for count in (20, 3, 17, 20):
            x = drawn(count, 64, 16, 16).requires_grad_()
            y = winograd(x, weight, stride)
            torch.autograd.grad(y.sum(), x)
    assert min(checked) < 64 < max(checked)


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
    done, transform = [], kernels.transform
    taps = [kernels.NUMBERS[kind] for kind in ("taps", "turned taps")]

    def counted(kind, *given):
        done.extend([kind] * (kind in taps))
        transform(kind, *given)

    monkeypatch.setattr("ops.models.winograd.KEPT_BYTES", memory)
    monkeypatch.setattr(kernels, "transform", counted)
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
        (Conv(64, 128, stride=2), drawn(64, 64, 16, 16), "few channels for stride 2"),
        (Conv(128, 128, kernel=1), drawn(64, 128, 8, 8), "another kernel"),
        (Conv(32, 32), drawn(64, 32, 8, 8), "few channels"),
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
