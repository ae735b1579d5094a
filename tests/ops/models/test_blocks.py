"""Blocks as one operation against the same network in double precision, layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models import blocks, chain, transformed
from ops.models.blocks import blocks_of, fits
from ops.models.config import Architecture
from ops.models.finish import Finish
from ops.models.frozen import frozen_parameters
from tests.ops.models.drawn import network, photographs

NETWORKS = {
    "preact": Architecture(widths=[16, 32], blocks=[2, 1], stem_stride=1),
    "three stages": Architecture(widths=[32, 48, 64], blocks=[1, 2, 2], stem_stride=2),
    "wide": Architecture(family="wide_resnet", depth=10, width=1),
    "wider": Architecture(family="wide_resnet", depth=16, width=2),
}
"""The wide ones have shortcuts that are not computed by Winograd's algorithm."""


def outcome(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Logits, and the gradient of the images."""
    x = x.detach().requires_grad_()
    logits = model(x)
    return [logits.detach(), torch.autograd.grad(logits.logsumexp(dim=1).sum(), x)[0]]


def counted(monkeypatch) -> list[bool]:
    """What `fits` says from now on."""
    said, asked = [], blocks.fits
    monkeypatch.setattr(blocks, "fits", lambda *given: said.append(asked(*given)) or said[-1])
    return said


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    count=st.sampled_from([1, 2, 7, 40]),
    height=st.integers(4, 21),
    width=st.integers(4, 21),
    seed=st.integers(0, 9),
    kernel_bytes=st.sampled_from([0, 2**17, chain.KERNEL_BYTES]),
    group_bytes=st.sampled_from([1, 2**15, chain.GROUP_BYTES]),
)
def test_they_say_what_the_layers_say(name, count, height, width, seed, kernel_bytes, group_bytes):
    """In groups of one image and more, or without; few tiles and odd sides, which torch convolves, and many."""
    model, x = network(NETWORKS[name]), photographs(count, height, width, seed)
    with pytest.MonkeyPatch.context() as patch, frozen_parameters(model):
        patch.setattr(chain, "KERNEL_BYTES", kernel_bytes)
        patch.setattr(chain, "GROUP_BYTES", group_bytes)
        said = counted(patch)
        found = outcome(model, x)
        with torch.no_grad():
            forward = model(x)
        assert said == [True, True]
    torch.testing.assert_close(forward, found[0], rtol=0, atol=0, msg="slopes change nothing")
    for a, b in zip(found, outcome(model.double(), x.double()), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=2e-5 * float(b.abs().max()))


def test_slopes_that_do_not_begin_at_a_line_are_refused():
    """A CPU would stop the program."""
    maps = torch.empty(2 * 16 * 4 * 4 + 1)[1:].view(2, 4, 4, 16).permute(0, 3, 1, 2)
    with pytest.raises(ValueError, match="multiple of 64 bytes"):
        Finish("by slopes", slopes=maps).whole(torch.empty_like(maps), torch.empty_like(maps))


def test_kernels_that_nobody_keeps_last_as_long_as_they_are_read(monkeypatch):
    """Compiled loops know their addresses only."""
    model, x = network(NETWORKS["three stages"]), photographs(40, 16, 16)
    with frozen_parameters(model):
        expected = outcome(model, x)
    monkeypatch.setattr(transformed, "KEPT_BYTES", 0)
    with frozen_parameters(model):
        for a, b in zip(outcome(model, x), expected, strict=True):
            assert torch.equal(a, b)


def test_what_loops_are_told_is_written_once_until_a_weight_changes(monkeypatch):
    model, x, described = network(NETWORKS["three stages"]), photographs(40, 16, 16), chain._described
    written = []
    monkeypatch.setattr(chain, "_described", lambda *given: written.append(given[1]) or described(*given))
    with frozen_parameters(model):
        outcome(model, x)
        first = len(written)
        outcome(model, x)
        assert len(written) == first > 0
        outcome(model, x[:9])
        assert len(written) == 2 * first, "for another number of images once more"
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.weight.detach().mul_(0.9)
        changed = outcome(model, x)
    for a, b in zip(changed, outcome(model.double(), x.double()), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=2e-5 * float(b.abs().max()))


def test_an_image_is_the_same_in_any_batch_and_on_any_number_of_threads(threads_restored):
    model, x = network(NETWORKS["three stages"]), photographs(41, 32, 32)
    with frozen_parameters(model):
        whole = outcome(model, x)
        for part in (slice(0, 8), slice(3, 30)):
            for a, b in zip(whole, outcome(model, x[part]), strict=True):
                assert torch.equal(a[part], b)
        torch.set_num_threads(1)
        for a, b in zip(whole, outcome(model, x), strict=True):
            assert torch.equal(a, b)


@pytest.fixture
def threads_restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_hook_sees_what_happens_within(monkeypatch):
    model, x, seen = network(NETWORKS["preact"]), photographs(4, 16, 16), []
    said = counted(monkeypatch)
    with frozen_parameters(model):
        expected = model(x)
        handle = blocks_of(model)[1].norm2.register_forward_hook(lambda _module, _given, made: seen.append(made.shape))
        torch.testing.assert_close(model(x), expected)
        handle.remove()
        model(x)
    assert seen == [(4, 16, 16, 16)]
    assert said == [True, False, True]


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (network(NETWORKS["preact"]).train(), "statistics of the batch"),
        (network(NETWORKS["preact"]).double(), "double precision"),
        (network(Architecture(widths=[16], blocks=[1], stem_stride=1, activation="relu")), "another activation"),
        (network(Architecture(widths=[24], blocks=[1], stem_stride=1)), "channels that fill no vectors"),
    ],
)
def test_what_is_left_to_the_layers(model, what):
    x = photographs(4, 16, 16).to(next(model.parameters()).dtype)
    with frozen_parameters(model):
        assert not fits(blocks_of(model), model.norm, model.stem(x)), what


def test_parameters_that_learn_get_their_gradients():
    model, x = network(NETWORKS["preact"]), photographs(4, 16, 16)
    assert not fits(blocks_of(model), model.norm, model.stem(x))
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        assert fits(blocks_of(model), model.norm, model.stem(x)), "nothing learns without a gradient"


FORMULAS = {
    "as it is": lambda x, beside, slopes, norm: {"made": x},
    "activated": lambda x, beside, slopes, norm: {"active": F.silu(norm(x))},
    "activated, slopes": lambda x, beside, slopes, norm: {"active": F.silu(norm(x)), "slopes": slope(norm, x)},
    "sum activated": lambda x, beside, slopes, norm: {"made": x + beside, "active": F.silu(norm(x + beside))},
    "sum activated, slopes": lambda x, beside, slopes, norm: {
        "made": x + beside,
        "active": F.silu(norm(x + beside)),
        "slopes": slope(norm, x + beside),
    },
    "by slopes": lambda x, beside, slopes, norm: {"made": x * slopes},
    "by slopes and sum": lambda x, beside, slopes, norm: {"made": x * slopes + beside},
    "sum by slopes": lambda x, beside, slopes, norm: {"made": (x + beside) * slopes},
}


def slope(norm, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(F.silu(norm(x)).sum(), x)[0]


@pytest.mark.parametrize("kind", sorted(FORMULAS))
def test_each_finish_is_its_formula(kind):
    """Every map that the formula does not name stays as it was."""
    draws = torch.Generator().manual_seed(0)
    x, made, beside, active, slopes = (
        (3 * torch.randn(3, 32, 5, 7, generator=draws)).contiguous(memory_format=torch.channels_last) for _ in range(5)
    )
    mean, scale, offset = statistics = torch.randn(3, 32, generator=draws)
    maps = {"made": made, "beside": beside, "active": active, "slopes": slopes}
    expected = {name: each.double() for name, each in maps.items()}
    expected |= FORMULAS[kind](
        x.double(),
        beside.double(),
        slopes.double(),
        lambda v: (v - mean.double()[:, None, None]) * scale.double()[:, None, None] + offset.double()[:, None, None],
    )
    Finish(kind, beside, active, slopes, statistics.numpy()).whole(x, made)
    for name, each in maps.items():
        torch.testing.assert_close(
            each.double(), expected[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_number_that_is_none_stays_none():
    model, x = network(NETWORKS["preact"]), photographs(4, 16, 16)
    x[2, 0, 5, 5] = torch.nan
    with frozen_parameters(model):
        logits = model(x)
    assert logits[2].isnan().all()
    assert not logits[[0, 1, 3]].isnan().any()
