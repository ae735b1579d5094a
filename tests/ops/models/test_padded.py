"""Networks with channels added against the same without, and what is left of the addition."""

import pytest
import torch
from torch import nn

from ops.attack.attacks import Attack
from ops.attack.run import run_attack
from ops.attack.threat import Threat
from ops.models import blocks
from ops.models.config import Architecture
from ops.models.frozen import frozen_parameters
from ops.models.padded import padded_channels
from tests.ops.models.drawn import network, photographs

NETWORKS = {
    "preact": Architecture(widths=[24, 40], blocks=[1, 2], stem_stride=2),
    "narrow": Architecture(widths=[8, 16], blocks=[1, 1], stem_stride=1),
    "parts of the last map": Architecture(widths=[24, 24], blocks=[1, 1], stem_stride=1, grid=2),
    "relu": Architecture(widths=[24], blocks=[1], stem_stride=1, activation="relu"),
}


def answers(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and a gradient of the images."""
    x = x.detach().requires_grad_(True)
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum() - logits[:, 1].square().sum(), x)
    return logits.detach(), gradient


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [1, 8])
def test_answers_and_gradients_are_those_of_the_network_as_it_is(name, count):
    model, x = network(NETWORKS[name]), photographs(count, 16, 16, 0)
    with frozen_parameters(model):
        expected = answers(model, x)
        with padded_channels(model):
            assert {conv.out_channels % 16 for conv in model.modules() if isinstance(conv, nn.Conv2d)} == {0}
            for ours, theirs in zip(answers(model, x), expected, strict=True):
                close(ours, theirs)


def test_a_network_within_another_gets_the_quick_path_and_is_itself_again_after_an_error(monkeypatch):
    inner = network(NETWORKS["preact"])
    model, x = nn.Sequential(nn.Identity(), inner), photographs(4, 16, 16, 0)
    before, held = dict(inner.named_parameters()), dict(inner.named_buffers())
    taken = []
    passed = blocks.pass_blocks
    monkeypatch.setattr(blocks, "pass_blocks", lambda *given: (taken.append(1), passed(*given))[1])
    with frozen_parameters(model):
        model(x)
        assert not taken
        with pytest.raises(KeyError), padded_channels(model):
            model(x)
            assert taken
            raise KeyError
    assert all(now is before[name] for name, now in inner.named_parameters())
    assert all(now is held[name] for name, now in inner.named_buffers())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "model",
    [
        network(NETWORKS["preact"]).train().requires_grad_(False),
        network(NETWORKS["preact"]),
        network(NETWORKS["preact"]).requires_grad_(False).double(),
        network(Architecture(widths=[16, 32], blocks=[1, 1])).requires_grad_(False),
        network(Architecture(widths=[4, 32], blocks=[1, 1])).requires_grad_(False),
        nn.Conv2d(3, 8, 3).requires_grad_(False),
    ],
    ids=["learns", "wants gradients", "double precision", "full", "too narrow", "of another kind"],
)
def test_others_are_left_alone(model):
    before = dict(model.named_parameters())
    with padded_channels(model):
        assert all(now is before[name] for name, now in model.named_parameters())


@pytest.mark.parametrize("name", ["apgd-ce", "square"])
def test_attacks_find_the_same_images_after_as_many_passes(monkeypatch, name):
    model, x, threat = network(NETWORKS["preact"]), photographs(24, 16, 16, 0), Threat(norm="linf", eps=0.02)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    attack, seeds, found, passes = Attack(name=name, steps=40), torch.arange(24), [], []
    for pads in (True, False):
        if not pads:
            monkeypatch.setattr("ops.models.padded._pays", lambda _: False)
        passes.append(torch.zeros_like(seeds))
        with torch.no_grad():
            found.append(model(run_attack(model, attack, x, y, threat, seeds, passes[-1])).argmax(dim=1) != y)
    assert 0 < found[0].sum() < 24, "the test needs both kinds"
    assert torch.equal(*found)
    assert torch.equal(*passes)
