"""Attacks refuse what would make a figure of nothing: numbers that are none, pixels of another scale, a single class."""

import pytest
import torch
from torch import nn

from ops.attack.attacks import Attack
from ops.attack.run import run_attack
from ops.attack.threat import Threat
from ops.errors import AmalgamError
from tests.ops.attack.test_attacks import batch, net

EVERY = [
    {"name": "pgd"},
    {"name": "pgd", "rule": "adam"},
    {"name": "multitargeted"},
    {"name": "apgd-ce"},
    {"name": "apgd-dlr"},
    {"name": "apgd-t"},
    {"name": "fab"},
    {"name": "fab-t"},
    {"name": "square"},
]
NORMS = [Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=1.0), Threat(norm="l1", eps=8)]
THREATS = [(attack, threat) for attack in EVERY for threat in NORMS if threat.norm != "l1" or "rule" not in attack]
NAMES = {"argvalues": THREATS, "ids": lambda v: "-".join(v.values()) if isinstance(v, dict) else v.norm}


class NotANumberAway(nn.Module):
    """The logits of a network on images as they are, and NaN a little away from them."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.images = net(), images

    def forward(self, x):
        away = (x.detach()[:, None] - self.images[None]).abs().amax(dim=(2, 3, 4)).amin(dim=1) > 1e-6
        return self.inner(x) + torch.where(away, torch.nan, 0.0)[:, None]


class NoSlope(nn.Module):
    """Finite logits whose gradient is NaN at one pixel: sqrt has none at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return self.inner(x) + (x[:, 0, 0, 0] - x[:, 0, 0, 0]).sqrt()[:, None]


@pytest.mark.parametrize(("settings", "threat"), **NAMES)
@pytest.mark.parametrize("label", [0, 2])
def test_logits_that_are_no_numbers_end_every_attack(settings, threat, label):
    """Of NaN the largest is class 0: images of that class would stand."""
    x, _ = batch(8)
    model = NotANumberAway(x)
    y = torch.full((8,), label)
    with pytest.raises(AmalgamError, match="logits that are no numbers"):
        run_attack(model, Attack(steps=3, **settings), x, y, threat, torch.arange(8))


@pytest.mark.parametrize(
    ("settings", "threat"), [pair for pair in THREATS if pair[0]["name"] != "square"], ids=NAMES["ids"]
)
def test_gradients_that_are_no_numbers_end_every_attack_that_follows_them(settings, threat):
    x, _ = batch(8)
    model = NoSlope()
    y = model(x).argmax(dim=1)
    assert torch.isfinite(model(x)).all()
    with pytest.raises(AmalgamError, match="gradient"):
        run_attack(model, Attack(steps=3, **settings), x, y, threat, torch.arange(8))


@pytest.mark.parametrize("settings", EVERY, ids=lambda s: "-".join(s.values()))
@pytest.mark.parametrize("scale", [(0.0, 255.0), (-1.0, 1.0)])
def test_pixels_of_another_scale_are_refused(settings, scale):
    x, y = batch(4)
    low, high = scale
    with pytest.raises(AmalgamError, match="divided by 255"):
        run_attack(net(), Attack(steps=2, **settings), low + (high - low) * x, y, NORMS[0], torch.arange(4))


@pytest.mark.parametrize("settings", EVERY, ids=lambda s: "-".join(s.values()))
def test_a_single_class_is_refused(settings):
    x, _ = batch(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 1))
    with pytest.raises(AmalgamError, match="single class"):
        run_attack(model, Attack(steps=2, **settings), x, torch.zeros(4, dtype=torch.int64), NORMS[0], torch.arange(4))


def test_a_network_is_left_as_it_was():
    x, y = batch(4)
    model = NotANumberAway(x)
    with pytest.raises(AmalgamError):
        run_attack(model, Attack(name="square", steps=2), x, y, NORMS[0], torch.arange(4))
    assert torch.isnan(model(x + 0.1)).all(), "nobody looks any more"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_huge_gradients_are_numbers():
    """A sum of them is none."""
    x, _ = batch(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3))
    with torch.no_grad():
        model[1].weight.fill_(1e36).mul_(torch.tensor([[1.0], [0.5], [-1.0]]))
        model[1].bias.zero_()
    y = model(x).argmax(dim=1)
    found = run_attack(model, Attack(name="fab-t", steps=2), x, y, NORMS[0], torch.arange(4))
    assert torch.isfinite(found).all()
