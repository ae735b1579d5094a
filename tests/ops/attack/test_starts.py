"""Directions and starting points."""

import pytest
import torch

from ops.attack.projections import ascent_direction, batch_start, norm_of, random_start
from ops.attack.threat import Threat

LINF, L2, L1 = THREATS = [Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5), Threat(norm="l1", eps=3)]


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_ascent_direction_maximises_a_linear_function_on_the_unit_ball(threat):
    """The maximum is the dual norm of the gradient; in L1, of a step that moves a single pixel."""
    gradient = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    direction = ascent_direction(gradient, threat, share=1 / 75)
    torch.testing.assert_close(norm_of(direction, threat), torch.ones(4))
    dual = {"linf": 1, "l2": 2, "l1": float("inf")}[threat.norm]
    expected = torch.linalg.vector_norm(gradient.flatten(1), dual, dim=1)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), expected)
    assert torch.equal(ascent_direction(torch.zeros(2, 3, 5, 5), threat), torch.zeros(2, 3, 5, 5))


def test_l1_steps_move_the_largest_entries_that_can_move():
    gradient = torch.tensor([[5.0, -4.0, 3.0, 2.0, -1.0, 0.5]])
    free = torch.full((1, 6), 0.5)
    expected = [1 / 3, -1 / 3, 1 / 3, 0, 0, 0]
    assert ascent_direction(gradient, L1, share=0.5)[0].tolist() == pytest.approx(expected)
    blocked = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.5, 0.5]])
    expected = [0, 0, 1 / 3, 0, -1 / 3, 1 / 3]
    assert ascent_direction(gradient, L1, blocked, share=0.5)[0].tolist() == pytest.approx(expected)
    assert torch.equal(ascent_direction(gradient, L1, free, 0.5), ascent_direction(gradient, L1, share=0.5))
    assert ascent_direction(gradient.abs(), L1, torch.ones(1, 6)).abs().sum() == 0


def test_l1_shares_may_differ_between_images():
    gradient = torch.randn(3, 100, generator=torch.Generator().manual_seed(1))
    together = ascent_direction(gradient, L1, share=torch.tensor([0.02, 0.3, 1.0]))
    assert (together != 0).sum(dim=1).tolist() == [2, 30, 100]
    for n, share in enumerate((0.02, 0.3, 1.0)):
        torch.testing.assert_close(ascent_direction(gradient[n : n + 1], L1, share=share), together[n : n + 1])


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_start_follows_from_the_examples_own_seed(threat, kind):
    x, seeds = images(), torch.tensor([7, 8, 9, 10, 11, 12])
    whole = random_start(x, threat, seeds, kind)
    assert torch.equal(random_start(x[2:4], threat, seeds[2:4], kind), whole[2:4])
    assert not torch.equal(random_start(x, threat, seeds + 1, kind), whole)
    assert (norm_of(whole - x, threat) > 0).all()
    assert (norm_of(whole - x, threat) <= threat.eps * (1 + 1e-5)).all()
    assert torch.equal(random_start(x, threat, seeds, "none"), x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_training_starts_fill_the_ball_evenly(norm):
    """Of a uniform point, ball of half the radius has 1 / 2^n of the volume, each coordinate the law of its norm."""
    threat = Threat(norm=norm, eps=0.2)
    x = torch.full((20_000, 3, 1, 1), 0.5)
    delta = (batch_start(x, threat, "uniform", torch.Generator().manual_seed(0)) - x).flatten(1)
    radius = norm_of(delta, threat)
    assert radius.max() <= threat.eps * (1 + 1e-5)
    assert float((radius < threat.eps / 2).float().mean()) == pytest.approx(1 / 8, abs=0.01)
    assert delta.mean(dim=0).abs().max() < 0.003
    # the share of the ball with |d_1| > eps / 2: 1/2 of the cube, 5/16 of the sphere, 1/8 of the octahedron
    share = {"linf": 1 / 2, "l2": 5 / 16, "l1": 1 / 8}[norm]
    assert float((delta[:, 0].abs() > threat.eps / 2).float().mean()) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_training_starts(threat):
    x = images()

    def start(kind, seed=4):
        return batch_start(x, threat, kind, torch.Generator().manual_seed(seed))

    assert torch.equal(start("none"), x)
    assert torch.equal(start("uniform"), start("uniform"))
    assert not torch.equal(start("uniform"), start("uniform", 5))
    inner = (x > 0.01) & (x < 0.99)
    assert float((start("gaussian") - x)[inner].std()) == pytest.approx(0.001, rel=0.1)
    for kind in ("uniform", "gaussian"):
        assert norm_of(start(kind) - x, threat).max() <= threat.eps * (1 + 1e-5)
        assert 0 <= start(kind).min() <= start(kind).max() <= 1
