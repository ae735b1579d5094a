"""The step of FAB: the shortest way to a hyperplane inside the box, against linear programs and the reference."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.fab_projections import projection_l1, projection_l2, projection_linf
from scipy.optimize import LinearConstraint, linprog, minimize

from ops.attack.planes import FEW, move_to_plane

NORMS = ("linf", "l2", "l1")
PEERS = {"linf": projection_linf, "l2": projection_l2, "l1": projection_l1}


def length(d, norm):
    return torch.linalg.vector_norm(d.flatten(1), {"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)


def draw(seed, count, pixels):
    rng = torch.Generator().manual_seed(seed)
    x = (torch.rand(count, pixels, generator=rng) * 1.4 - 0.2).clamp(0, 1)  # some pixels are at the border
    normal = torch.randn(count, pixels, generator=rng) * (torch.rand(count, pixels, generator=rng) > 0.2)
    return x, normal, torch.randn(count, generator=rng)


def shortest(x, normal, gain, norm):
    """Return the length of the shortest way by scipy: linear programs for L-inf and L1, SLSQP for L2."""
    n, bounds = len(x), list(zip(-x, 1 - x, strict=True))
    if norm == "l2":
        plane = LinearConstraint(normal, gain, gain)
        begin = normal * gain / (normal @ normal)
        found = minimize(lambda d: d @ d / 2, begin, jac=lambda d: d, bounds=bounds, constraints=plane, method="SLSQP")
        assert found.success
        return float(np.sqrt(2 * found.fun))
    # |d_i| <= t (one t, or one each), minimise t or their sum
    extra = 1 if norm == "linf" else n
    spread = np.ones((n, 1)) if norm == "linf" else np.eye(n)
    upper = np.block([[np.eye(n), -spread], [-np.eye(n), -spread]])
    cost = np.concatenate([np.zeros(n), np.ones(extra)])
    plane = np.concatenate([normal, np.zeros(extra)])[None]
    found = linprog(cost, upper, np.zeros(2 * n), plane, [gain], bounds + [(0, None)] * extra)
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 10_000), pixels=st.integers(2, 12), share=st.floats(-0.95, 0.95))
@settings(deadline=None, max_examples=40)
def test_the_way_is_the_shortest(norm, seed, pixels, share):
    x, normal, _ = draw(seed, 1, pixels)
    most = torch.where((normal > 0) == (share > 0), 1 - x, x)
    gain = share * (normal.abs() * most).sum(dim=1)
    if float(gain.abs()) < 1e-3:
        return
    d = move_to_plane(x, normal, gain, norm)
    assert torch.allclose((normal * d).sum(dim=1), gain, rtol=1e-4, atol=1e-5)
    assert float((x + d).min()) >= -1e-6
    assert float((x + d).max()) <= 1 + 1e-6
    expected = shortest(x[0].double().numpy(), normal[0].double().numpy(), float(gain), norm)
    assert float(length(d, norm)) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_those_of_the_reference(norm):
    x, normal, gain = draw(3, 200, 48)
    gain = gain * 3
    ours = move_to_plane(x, normal, gain, norm)
    theirs = PEERS[norm](x.clone(), normal.clone(), gain + (normal * x).sum(dim=1))
    reached = ((normal * theirs).sum(dim=1) - gain).abs() < 1e-3  # where the box lets it
    assert reached.float().mean() > 0.9
    assert torch.allclose(length(ours, norm)[reached], length(theirs, norm)[reached], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_beyond_the_box_it_is_the_corner(norm):
    x, normal, _ = draw(5, 20, 30)
    d = move_to_plane(x, normal, torch.full((20,), 1e4), norm)
    corner = torch.where(normal > 0, 1 - x, -x) * (normal != 0)
    assert torch.allclose(d, corner, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_where_there_is_no_slope_nothing_moves(norm):
    x, _, gain = draw(6, 5, 10)
    assert torch.equal(move_to_plane(x, torch.zeros_like(x), gain, norm), torch.zeros_like(x))


@pytest.mark.parametrize("norm", NORMS)
def test_images_keep_their_shape(norm):
    x, normal, gain = draw(7, 6, 48)
    flat = move_to_plane(x, normal, gain, norm)
    shaped = move_to_plane(x.view(6, 3, 4, 4), normal.view(6, 3, 4, 4), gain, norm)
    assert torch.equal(shaped.flatten(1), flat)


def test_without_sorting_all_entries_the_way_in_l1_is_the_same(monkeypatch):
    """Of some images few entries move, of others more than are looked at first, and of some no point is on the plane."""
    x, normal, gain = draw(9, 60, 96)
    most = (normal.abs() * torch.where((normal > 0) == (gain > 0)[:, None], 1 - x, x)).sum(dim=1)
    gain = gain.sign() * most * torch.linspace(0.01, 1.2, 60)
    found = move_to_plane(x, normal, gain, "l1")
    moved = (found != 0).sum(dim=1)
    assert moved.min() < 96 // FEW < moved.max()
    monkeypatch.setattr("ops.attack.planes.FEW", 97)
    assert torch.equal(found, move_to_plane(x, normal, gain, "l1"))
