"""Projections and starts, against their definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.attack.projections import ascent_direction, norm_of, project, random_start
from ops.attack.threat import Threat

THREATS = [Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5)]


def images(seed: int, count: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 3), threat=st.sampled_from(THREATS))
def test_projection_is_in_ball_and_box_and_is_idempotent(seed, scale, threat):
    centre = images(seed)
    x = centre + scale * torch.randn(centre.shape, generator=torch.Generator().manual_seed(seed + 1))
    once = project(x, centre, threat)
    assert norm_of(once - centre, threat).max() <= threat.eps * (1 + 1e-5)
    assert once.min() >= 0
    assert once.max() <= 1
    torch.testing.assert_close(project(once, centre, threat), once, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), threat=st.sampled_from(THREATS))
def test_points_inside_stay_where_they_are(seed, threat):
    centre = images(seed) * 0.5 + 0.25
    delta = torch.randn(centre.shape, generator=torch.Generator().manual_seed(seed))
    delta = delta / norm_of(delta, threat).view(-1, 1, 1, 1) * threat.eps * 0.99
    inside = (centre + delta).clamp(0, 1)
    torch.testing.assert_close(project(inside, centre, threat), inside, rtol=0, atol=1e-6)


def test_linf_projection_is_the_closest_point():
    """Coordinates are independent: the closest point is the clamp to [max(0, c - eps), min(1, c + eps)], by search."""
    threat = THREATS[0]
    centre, x = images(0, 1), images(1, 1) * 2 - 0.5
    grid = torch.linspace(0, 1, 20_001)
    for c, v, p in zip(centre.flatten(), x.flatten(), project(x, centre, threat).flatten(), strict=True):
        allowed = grid[(grid - c).abs() <= threat.eps]
        assert abs(float(p - allowed[(allowed - v).abs().argmin()])) < 1e-4


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_ascent_direction_maximises_a_linear_function_on_the_unit_ball(threat):
    gradient = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    best = (gradient * ascent_direction(gradient, threat)).flatten(1).sum(1)
    dual = gradient.flatten(1).abs().sum(1) if threat.norm == "linf" else gradient.flatten(1).norm(dim=1)
    torch.testing.assert_close(best, dual)
    assert torch.isfinite(ascent_direction(torch.zeros(2, 3, 5, 5), threat)).all()


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_start_follows_from_the_examples_own_seed(threat):
    x, seeds = images(0), torch.tensor([7, 8, 9, 10, 11, 12])
    whole = random_start(x, threat, seeds)
    assert torch.equal(random_start(x[2:4], threat, seeds[2:4]), whole[2:4])
    assert (norm_of(whole - x, threat) > 0).all()
    assert (norm_of(whole - x, threat) <= threat.eps * (1 + 1e-5)).all()


def test_threats_read_fractions_and_refuse_confusions():
    assert Threat(norm="linf", eps="8/255").eps == pytest.approx(8 / 255)
    assert str(Threat(norm="l2", eps="128/255")) == "l2 128/255"
    with pytest.raises(ValueError, match="did you mean 8/255"):
        Threat(norm="linf", eps=8)
    with pytest.raises(ValueError, match="greater than 0"):
        Threat(norm="linf", eps=0)
