"""Attacks ask for gradients of images only, and leave the model as it was."""

import copy

import pytest
import torch
from torch import nn

from ops.attack.pgd import pgd
from ops.attack.threat import Threat
from ops.models.frozen import frozen_parameters, quick_convolutions


def test_parameters_learn_again_afterwards_and_only_those_that_did():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    before = [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyError), frozen_parameters(model):
        assert not any(p.requires_grad for p in model.parameters())
        raise KeyError
    assert [p.requires_grad for p in model.parameters()] == before == [True, True, False, False]


def test_a_graph_built_before_keeps_its_gradients():
    model, x = nn.Linear(2, 1), torch.ones(1, 2)
    value = model(x).sum()
    with frozen_parameters(model):
        assert not model(x).requires_grad
    value.backward()
    torch.testing.assert_close(model.weight.grad, x)


def test_an_attack_computes_no_gradient_of_a_parameter():
    """An operation that computes whatever its inputs require, as custom ones do, is not asked for the weights."""
    asked = []

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x * weight

        @staticmethod
        def backward(ctx, gradient):
            asked.append(ctx.needs_input_grad)
            x, weight = ctx.saved_tensors
            return gradient * weight, (gradient * x).sum().reshape(1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((1,), 2.0))

        def forward(self, x):
            y = Scale.apply(x, self.weight).flatten(1).mean(dim=1)
            return torch.stack([y, 1 - y], dim=1)

    x, labels = torch.full((2, 3, 2, 2), 0.4), torch.zeros(2, dtype=torch.int64)
    pgd(Model().eval(), x, labels, Threat(norm="linf", eps=0.1), steps=2, example_seeds=torch.arange(2))
    assert asked == [(True, False)] * 2


@pytest.mark.parametrize(
    ("layer", "quick"),
    [
        (nn.Conv2d(32, 48, 3, padding=1, bias=False), True),
        (nn.Conv2d(32, 48, 3, padding=1), False),
        (nn.Conv2d(32, 48, 3, padding=1, bias=False, padding_mode="reflect"), False),
        (nn.Conv2d(32, 48, 3, padding=0, bias=False), False),
        (nn.Conv2d(32, 48, 3, padding=0, bias=False, stride=2), False),
        (nn.Conv2d(32, 48, 3, padding=1, bias=False, groups=2), False),
    ],
)
def test_networks_built_elsewhere_convolve_as_ours_do(layer, quick):
    """The same output and gradient whatever the layer, and the layer is torch's again afterwards."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(8, 32, 16, 16, generator=rng).contiguous(memory_format=torch.channels_last).requires_grad_()
    model, twin = nn.Sequential(layer.to(memory_format=torch.channels_last)), copy.deepcopy(layer).double()
    with pytest.raises(KeyError), frozen_parameters(model), quick_convolutions(model):
        y = model(x)
        assert ("Winograd" in y.grad_fn.name()) == quick
        (slope,) = torch.autograd.grad(y.square().sum(), x)
        raise KeyError
    expected = twin(x.double())
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=5e-5)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(slope, wanted, rtol=0, atol=2e-4)
    assert type(layer) is nn.Conv2d
