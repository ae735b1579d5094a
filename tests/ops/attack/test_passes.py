"""What an attack says it spent on an example, against the passes that the network made for that example alone."""

import pytest
import torch
from torch import nn

from ops.attack.attacks import Attack
from ops.attack.run import run_attack
from ops.attack.threat import Threat
from tests.ops.attack.test_attacks import batch, net

LINF, WIDE, L1 = Threat(norm="linf", eps=6 / 255), Threat(norm="linf", eps=14 / 255), Threat(norm="l1", eps=2)
ATTACKS = [
    ({"name": "pgd", "steps": 6, "restarts": 2}, LINF),
    ({"name": "multitargeted", "steps": 6, "targets": 2}, LINF),
    ({"name": "apgd-ce", "steps": 8, "restarts": 2}, LINF),
    ({"name": "apgd-ce", "steps": 10}, L1),
    ({"name": "apgd-ce", "steps": 8, "eot": 3}, LINF),
    ({"name": "apgd-dlr", "steps": 8}, LINF),
    ({"name": "apgd-t", "steps": 6, "targets": 3}, LINF),
    ({"name": "fab", "steps": 4, "restarts": 2}, LINF),
    ({"name": "fab-t", "steps": 4, "targets": 2, "restarts": 2}, LINF),
    ({"name": "square", "steps": 300}, WIDE),
]


class Counted(nn.Module):
    """Counts the images that go through it, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.forwards, self.backwards = net(), 0, 0

    def forward(self, x):
        self.forwards += len(x)
        logits = self.inner(x)
        if logits.requires_grad:
            logits.register_hook(self.back)
        return logits

    def back(self, gradient):
        self.backwards += len(gradient)


@pytest.mark.parametrize(("settings", "threat"), ATTACKS, ids=lambda v: v["name"] if isinstance(v, dict) else str(v))
def test_passes_are_those_of_the_network(settings, threat):
    """In a batch every example is charged what it costs alone, but for the backward pass of the iterate at which it falls."""
    attack, model, (x, _), seeds = Attack(**settings), Counted(), batch(40), torch.arange(40)
    y = net()(x).argmax(dim=1)
    together = torch.full((40,), 7)
    adversarial = run_attack(model, attack, x, y, threat, seeds, together)
    together -= 7
    fell = net()(adversarial).argmax(dim=1) != y
    assert 3 < fell.sum() < 37, "the test needs both kinds"
    look = int(attack.name in ("apgd-dlr", "apgd-t"))
    for one in range(40):
        model.forwards = model.backwards = 0
        alone = torch.zeros(1, dtype=torch.int64)
        i = slice(one, one + 1)
        run_attack(model, attack, x[i], y[i], threat, seeds[i], alone)
        idle = int(attack.name.startswith("apgd") and attack.eot == 1 and bool(fell[one]))
        assert int(alone) == model.forwards - look + model.backwards - idle
        assert int(together[one]) == int(alone)


def test_the_budget_of_an_example_that_stands_is_known():
    """A forward and a backward pass at the start and after each step of APGD; a forward pass for each query of Square."""
    (x, _), model = batch(16), net()
    y, tiny = model(x).argmax(dim=1), Threat(norm="linf", eps=1e-6)
    for settings, cost in (
        ({"name": "apgd-ce", "steps": 8}, 2 * 9),
        ({"name": "apgd-ce", "steps": 8, "eot": 5, "restarts": 2}, 2 * 2 * 5 * 9),
        ({"name": "apgd-t", "steps": 8, "targets": 2}, 1 + 2 * 2 * 9),
        ({"name": "pgd", "steps": 8}, 2 * 9 - 1),
        ({"name": "fab-t", "steps": 5, "targets": 2}, 1 + 2 * 3 * 5),
        ({"name": "fab", "steps": 5}, (2 + 4) * 5),
        ({"name": "square", "steps": 20}, 21),
    ):
        spent = torch.zeros(16, dtype=torch.int64)
        run_attack(model, Attack(**settings), x, y, tiny, torch.arange(16), spent)
        assert spent.tolist() == [cost] * 16, settings
