"""Searches that cannot move end early: against the same searches with all their steps, and on networks without a gradient."""

import pytest
import torch
from torch import nn

from ops.attack.apgd_search import Search
from ops.attack.attacks import Attack
from ops.attack.run import run_attack
from ops.attack.threat import Threat
from tests.ops.attack.test_attacks import batch, net

LINF, L2, L1 = Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5), Threat(norm="l1", eps=4)
STEPS = 30


class HalfRounded(nn.Module):
    """A network that sees dark images through a rounding, which has no gradient, and bright ones as they are.

    One by one: torch's convolution of a single image rounds as it pleases, and batches shrink to one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x):
        dark = (x.detach().mean(dim=(1, 2, 3), keepdim=True) < 0.5).float()
        seen = dark * (15 * x).round() / 15 + (1 - dark) * x
        return torch.cat([self.inner(each) for each in seen.split(1)])


def shaded(count):
    """Return images of which every second one is so dark, and the others so bright, that no attack changes that."""
    x, _ = batch(count)
    return torch.where(torch.arange(count)[:, None, None, None] % 2 == 0, 0.3 * x, 0.7 + 0.3 * x)


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
@pytest.mark.parametrize("settings", [{"name": "apgd-ce"}, {"name": "apgd-t", "targets": 2}], ids=lambda s: s["name"])
def test_what_is_found_is_what_all_steps_find(monkeypatch, settings, threat):
    model, x, seeds = HalfRounded(), shaded(24), torch.arange(24)
    y = model(x).argmax(dim=1)
    attack = Attack(steps=STEPS, **settings)
    short, whole = torch.zeros_like(seeds), torch.zeros_like(seeds)
    found = run_attack(model, attack, x, y, threat, seeds, short)
    monkeypatch.setattr(Search, "rests", lambda self, before: torch.zeros_like(self.places, dtype=torch.bool))
    assert torch.equal(found, run_attack(model, attack, x, y, threat, seeds, whole))
    dark = seeds % 2 == 0
    assert torch.equal(short[~dark], whole[~dark])
    if threat.norm == "linf":  # in the other norms a projection may move a point by its rounding
        standing = dark & (whole > STEPS)
        assert standing.sum() > 6
        assert (short[standing] < whole[standing] / 4).all()
    assert (short <= whole).all()


@pytest.mark.parametrize(
    "threat", [threat.model_copy(update={"eps": threat.eps / 16}) for threat in (LINF, L2, L1)], ids=str
)
def test_fab_leaves_an_image_without_a_gradient_after_a_step_for_each_target(threat):
    model, x, seeds = HalfRounded(), shaded(24), torch.arange(24)
    y, spent = model(x).argmax(dim=1), torch.zeros_like(seeds)
    found = run_attack(model, Attack(name="fab-t", steps=STEPS, targets=2), x, y, threat, seeds, spent)
    dark = seeds % 2 == 0
    assert torch.equal(found[dark], x[dark])
    assert (spent[dark] == 1 + 2 * 3).all()
    alone = torch.zeros(12, dtype=torch.int64)
    attack = Attack(name="fab-t", steps=STEPS, targets=2)
    again = run_attack(model, attack, x[~dark], y[~dark], threat, seeds[~dark], alone)
    torch.testing.assert_close(found[~dark], again)
    assert torch.equal(spent[~dark], alone)
    assert alone.max() > 1 + 2 * 3


def test_an_example_that_may_still_move_does_not_rest():
    """A step of a search that had a gradient, or has a better point elsewhere, says nothing of the next."""
    x = torch.rand(3, 1, 2, 2)
    best = x.clone()
    best[2] += 0.1
    gradient = torch.zeros_like(x)
    gradient[1, 0, 0, 0] = 1e-30
    state = _Still(torch.arange(3), x, torch.zeros(3), x, gradient, torch.zeros(3), best, torch.zeros(3), gradient)
    assert state.rests(x.clone()).tolist() == [True, False, False]
    assert not state.rests(x + 1e-3).any()


class _Still(Search):
    def step(self, threat, number):
        raise AssertionError

    def review(self, threat, number):
        raise AssertionError
