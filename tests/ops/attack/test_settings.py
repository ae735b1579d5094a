"""What an attack's settings mean, against the functions that they stand for."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ops.attack.attacks import Attack
from ops.attack.multitargeted import multitargeted
from ops.attack.pgd import pgd
from ops.attack.run import run_attack
from ops.attack.threat import Threat
from tests.ops.attack.test_attacks import batch, net

LINF = Threat(norm="linf", eps=6 / 255)
SEEDS = torch.arange(24)


@pytest.mark.parametrize("rule", ["steepest", "adam"])
def test_pgd_takes_the_steps_that_are_set(rule):
    (x, _), model = batch(24), net()
    y = model(x).argmax(dim=1)
    found = run_attack(model, Attack(name="pgd", steps=8, rule=rule), x, y, LINF, SEEDS)
    assert torch.equal(found, pgd(model, x, y, LINF, steps=8, loss="margin", example_seeds=SEEDS, rule=rule))
    other = pgd(
        model, x, y, LINF, steps=8, loss="margin", example_seeds=SEEDS, rule={"adam": "steepest"}.get(rule, "adam")
    )
    assert not torch.equal(found, other)
    found = run_attack(model, Attack(name="multitargeted", steps=8, rule=rule), x, y, LINF, SEEDS)
    assert torch.equal(found, multitargeted(model, x, y, LINF, steps=8, example_seeds=SEEDS, rule=rule))


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab", "fab-t", "square"])
def test_attacks_with_steps_of_their_own_take_no_rule(name):
    with pytest.raises(ValidationError, match="rule belongs to pgd, multitargeted"):
        Attack(name=name, rule="adam")


@pytest.mark.parametrize(
    ("name", "passes"), [("multitargeted", 1 + 11 * 5), ("apgd-t", 1 + 9 * 6), ("fab-t", 1 + 9 * 6)]
)
def test_without_targets_multitargeted_aims_at_all_wrong_classes_and_the_others_at_nine(name, passes):
    x, _ = batch(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 12))
    y, spent = model(x).argmax(dim=1), torch.zeros(4, dtype=torch.int64)
    run_attack(model, Attack(name=name, steps=2), x, y, Threat(norm="linf", eps=1e-7), torch.arange(4), spent)
    assert spent.tolist() == [passes] * 4
