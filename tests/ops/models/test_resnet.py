"""Residual networks against published sizes and against their definition, written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.models.resnet import BN_MOMENTUM, Conv, fan_in_truncated_, same_padding

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def preact_18(width: int) -> Architecture:
    return Architecture(widths=[width * 2**stage for stage in range(4)], blocks=[2, 2, 2, 2], stem_stride=1)


def wide(depth: int, width: int) -> Architecture:
    return Architecture(family="wide_resnet", depth=depth, width=width)


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        (wide(28, 10), "36.48"),
        (wide(70, 16), "266.80"),
        (wide(16, 4), "2.75"),
        (preact_18(64), "12.55"),  # with the 3x3 shortcuts of the papers' model zoo
        (preact_18(32), "3.14"),
        (preact_18(16), "0.787"),
        (preact_18(12), "0.443"),
        (preact_18(8), "0.198"),
    ],
)
def test_parameter_counts_are_the_published_ones(architecture, millions):
    with torch.device("meta"):
        model = build_classifier(architecture, 10, MEAN, STD)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert f"{count:.{len(millions.split('.')[1])}f}" == millions


def test_strides_and_shapes():
    model = build_classifier(preact_18(8), 7, MEAN, STD).eval()
    assert model.blocks(model.stem(torch.rand(1, 3, 32, 32))).shape == (1, 64, 4, 4)
    model = build_classifier(wide(10, 2), 7, MEAN, STD).eval()
    assert model.blocks(model.stem(torch.rand(1, 3, 32, 32))).shape == (1, 128, 8, 8)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_stride_two_pads_even_sides_at_the_end(side):
    conv, x = Conv(4, 5, stride=2), torch.randn(2, 4, side, side)
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2))
    assert not torch.allclose(conv(x), F.conv2d(x, conv.weight, stride=2, padding=1))


def test_other_sides_and_strides():
    x = torch.randn(2, 4, 7, 10)
    one, two, point = Conv(4, 5), Conv(4, 5, stride=2), Conv(4, 5, kernel=1, stride=2)
    torch.testing.assert_close(one(x), F.conv2d(x, one.weight, padding=1))
    torch.testing.assert_close(two(x), F.conv2d(F.pad(x, (0, 1, 1, 1)), two.weight, stride=2))
    torch.testing.assert_close(point(x), F.conv2d(x[:, :, ::2, ::2], point.weight))


@settings(max_examples=200, deadline=None)
@given(side=st.integers(1, 70), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 4))
def test_same_padding_is_the_least_that_gives_every_stride_a_pixel(side, kernel, stride):
    """The only padding with ceil(side / stride) outputs, no pixel more than they need, and the odd one at the end."""
    before, after = same_padding(side, kernel, stride)
    outputs = [o for o in range(0, side + before + after - kernel + 1, stride)]
    assert len(outputs) == math.ceil(side / stride)
    assert before <= after <= before + 1
    assert before + after == 0 or outputs[-1] + kernel == side + before + after


def test_first_weights_are_truncated_normal():
    weight = torch.empty(200, 20, 3, 3)
    fan_in_truncated_(weight)
    spread = weight.flatten().double() * math.sqrt(20 * 9)
    cut = 2 / math.sqrt(stats.truncnorm(-2, 2).var())
    assert float(spread.abs().max()) <= cut * (1 + 1e-6)
    assert float(spread.std()) == pytest.approx(1, abs=0.02)
    assert stats.kstest(spread.numpy(), stats.truncnorm(-2, 2, scale=cut / 2).cdf).statistic < 0.01


def normalised(state, name, x, activate):
    bias, mean, var, weight = (state[f"{name}.norm.{k}"] for k in ("bias", "running_mean", "running_var", "weight"))
    scaled = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
    return activate(scaled * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1))


def definition(state, x, kind, strides, activate):
    """The logits of a network in evaluation mode, from its weights alone."""

    def conv(name, y, stride):
        kernel = state[name].shape[-1]
        return F.conv2d(
            F.pad(y, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)) if kernel == 3 else y, state[name], stride=stride
        )

    y = F.conv2d((x - state["mean"]) / state["std"], state["stem.weight"], padding=1)
    for i, stride in enumerate(strides):
        block = f"blocks.{i}"
        active = normalised(state, f"{block}.norm1", y, activate)
        inner = normalised(state, f"{block}.norm2", conv(f"{block}.conv1.weight", active, stride), activate)
        shortcut = f"{block}.shortcut.weight"
        skip = conv(shortcut, active if kind == "wide" else y, stride) if shortcut in state else y
        y = skip + conv(f"{block}.conv2.weight", inner, 1)
    y = normalised(state, "norm", y, activate).mean(dim=(2, 3))
    return y @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("kind", ["preact", "wide"])
def test_networks_are_their_definition(build, kind, activation):
    if kind == "wide":
        architecture = Architecture(family="wide_resnet", depth=16, width=2, activation=activation)
        strides = [1, 1, 2, 1, 2, 1]
    else:
        architecture = Architecture(widths=[6, 8, 8], blocks=[2, 1, 2], stem_stride=1, activation=activation)
        strides = [1, 1, 2, 2, 1]
    model, rng = build(architecture).eval(), torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for each in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(each, 0.5, 1.5, generator=rng)
    x = torch.rand(3, 3, 16, 16, generator=rng)
    activate = (lambda y: y * y.sigmoid()) if activation == "silu" else (lambda y: y.clamp(min=0))
    expected = definition(model.state_dict(), x, kind, strides, activate)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_a_grid_keeps_where_features_are(build):
    """Means of the four quarters of the last map; their mean is the mean of all pixels."""
    sizes = {"widths": [8, 16], "blocks": [1, 1], "stem_stride": 2}
    one, four = (build(Architecture(**sizes, grid=grid)).eval() for grid in (1, 2))
    weights = {k: v for k, v in one.state_dict().items() if not k.startswith("head")}
    four.load_state_dict(weights, strict=False)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    quarters = four.features(x).view(3, 16, 2, 2)
    torch.testing.assert_close(quarters.mean(dim=(2, 3)), one.features(x))
    last = four.norm(four.blocks(four.stem(four.normalise(x))))
    torch.testing.assert_close(quarters[:, :, 0, 1], last[:, :, :4, 4:].mean(dim=(2, 3)))


def test_batchnorm_keeps_the_papers_decay():
    model = build_classifier(preact_18(8), 10, MEAN, STD)
    momenta = [m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(momenta) == 17
    assert set(momenta) == {BN_MOMENTUM}
