"""Climbing with the examples that still stand, against climbing with all of them."""

import pytest
import torch
from torch import nn

from ops.attack.objectives import objective_of
from ops.attack.pgd import climb, step_rule
from ops.attack.projections import random_start
from ops.attack.threat import Threat

COUNT, STEPS = 24, 12


class Counting(nn.Module):
    """A small convolutional classifier that counts the images it sees."""

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.seen = 0
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6 * 36, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.6, generator=rng)

    def forward(self, x):
        self.seen += len(x)
        return self.head(torch.tanh(self.conv(x)).flatten(1))


def climb_with_all(model, start, centre, labels, objective, rule, steps):
    """The same search, which goes on with examples that are fooled."""
    x, best, best_value = start, centre.clone(), torch.full((len(centre),), -torch.inf)
    fooled = torch.zeros(len(centre), dtype=torch.bool)
    for step in range(steps + 1):
        x = x.detach().requires_grad_()
        value = objective(logits := model(x), labels)
        wrong = logits.argmax(dim=1) != labels
        better = ~fooled & (wrong | (value > best_value))
        best[better], best_value[better] = x.detach()[better], value.detach()[better]
        fooled |= wrong
        if step < steps:
            x = rule(step, x.detach(), torch.autograd.grad(value.sum(), x)[0], centre)
    return best, best_value, fooled


@pytest.mark.parametrize("rule", ["steepest", "adam"])
@pytest.mark.parametrize("loss", ["ce", "margin", "margin-targeted"])
def test_who_is_fooled_does_not_hold_up_the_others(rule, loss):
    model, threat = Counting().eval(), Threat(norm="linf", eps=0.015)
    centre = torch.rand(COUNT, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(centre).argmax(dim=1)
    objective = objective_of(loss, (labels + 1) % 4 if loss == "margin-targeted" else None)
    start = random_start(centre, threat, torch.arange(COUNT))

    model.seen = 0
    found = climb(model, start, centre, labels, objective, step_rule(rule, threat, centre, STEPS), STEPS)
    seen = model.seen
    best, value, fooled = climb_with_all(
        model, start, centre, labels, objective, step_rule(rule, threat, centre, STEPS), STEPS
    )

    assert 0 < int(fooled.sum()) < COUNT, "the test needs both kinds"
    assert torch.equal(found.fooled, fooled)
    torch.testing.assert_close(found.images, best, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.value, value, rtol=1e-4, atol=1e-5)
    assert seen < COUNT * (STEPS + 1), "examples that were fooled were attacked again"


def test_nothing_is_left_to_do_when_all_are_fooled():
    model, threat = Counting().eval(), Threat(norm="linf", eps=0.015)
    centre = torch.rand(COUNT, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = (model(centre).argmax(dim=1) + 1) % 4
    model.seen = 0
    found = climb(model, centre, centre, labels, objective_of("ce"), step_rule("adam", threat, centre, STEPS), STEPS)
    assert found.fooled.all()
    assert model.seen == COUNT
