"""Step rules against torch's Adam and against closed forms."""

import pytest
import torch

from ops.attack.ascent import AdamAscent, SteepestAscent, evaluation_rates, training_rates
from ops.attack.projections import norm_of
from ops.attack.threat import Threat
from ops.errors import AmalgamError

RNG = torch.Generator().manual_seed(0)
CENTRE = 0.5 + 0.1 * torch.rand(4, 3, 6, 6, generator=RNG)


def test_adam_is_torchs_where_nothing_is_projected():
    wide = Threat(norm="linf", eps=0.39)
    rates = training_rates(10)
    rule = AdamAscent(wide, [rate / 10 for rate in rates])
    mine, theirs = CENTRE.clone(), CENTRE.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([theirs], betas=(0.9, 0.999), eps=1e-9, maximize=True)
    rng = torch.Generator().manual_seed(1)
    for step, rate in enumerate(rates):
        # gradients from 1e-6 to 10, so that epsilon and both moments matter
        gradient = torch.randn(CENTRE.shape, generator=rng) * 10.0 ** torch.randint(-6, 2, (4, 1, 1, 1), generator=rng)
        optimizer.param_groups[0]["lr"] = rate / 10
        theirs.grad = gradient.clone()
        optimizer.step()
        mine = rule(step, mine, gradient, CENTRE)
        torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=1e-6)
    assert (mine - CENTRE).abs().max() > 0.01


def test_rates_are_those_of_the_reference():
    assert training_rates(10) == [0.1] * 5 + [0.01] * 5
    assert evaluation_rates(40) == [0.1] * 20 + [0.01] * 10 + [0.0001] * 10
    assert len(evaluation_rates(7)) == len(training_rates(7)) == 7


@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=0.02), Threat(norm="l2", eps=0.1)], ids=str)
def test_adam_on_a_linear_function_ends_where_all_pixels_move_alike(threat):
    """d = eps sign(w) for L-inf, which is the worst case; eps sign(w) / sqrt(n) for L2, which is not: |w|_1 / sqrt(n)."""
    w = torch.randn(CENTRE.shape, generator=torch.Generator().manual_seed(2))
    rule, x = AdamAscent(threat, [0.1] * 20), CENTRE
    for step in range(20):
        x = rule(step, x, w, CENTRE)
    expected = w.sign() if threat.norm == "linf" else w.sign() / w[0].numel() ** 0.5
    torch.testing.assert_close(x - CENTRE, threat.eps * expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=0.02), Threat(norm="l2", eps=0.1)], ids=str)
def test_one_long_step_is_the_worst_case_of_a_linear_function(threat):
    """The worst case lies at eps times the gradient's steepest direction, and the step of 2 eps is projected on it."""
    w = torch.randn(CENTRE.shape, generator=torch.Generator().manual_seed(2))
    found = SteepestAscent(threat, [2 * threat.eps])(0, CENTRE, w, CENTRE) - CENTRE
    length = w.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    expected = threat.eps * (w.sign() if threat.norm == "linf" else w / length)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_sizes_and_shares_belong_to_steps():
    threat = Threat(norm="l1", eps=5)
    rule = SteepestAscent(threat, [0.5, 0.25], [1 / 108, 4 / 108])
    w = torch.randn(CENTRE.shape, generator=torch.Generator().manual_seed(2))
    for step, (size, moved) in enumerate([(0.5, 1), (0.25, 4)]):
        delta = rule(step, CENTRE, w, CENTRE) - CENTRE
        assert (delta.flatten(1) != 0).sum(dim=1).tolist() == [moved] * 4
        torch.testing.assert_close(norm_of(delta, threat), torch.full((4,), size), rtol=0, atol=0.2 * size)


def test_training_moves_a_twentieth_of_the_pixels_in_l1():
    rule = SteepestAscent(Threat(norm="l1", eps=5), [0.1])
    w = torch.randn(CENTRE.shape, generator=torch.Generator().manual_seed(2))
    assert ((rule(0, CENTRE, w, CENTRE) - CENTRE).flatten(1) != 0).sum(dim=1).tolist() == [6] * 4


def test_adam_refuses_l1():
    with pytest.raises(AmalgamError, match="set the rule to steepest"):
        AdamAscent(Threat(norm="l1", eps=12), [0.1])
