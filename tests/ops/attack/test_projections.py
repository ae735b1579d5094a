"""Projections against their definition and a solver of quadratic programs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ops.attack.projections import ascent_direction, norm_of, project
from ops.attack.threat import Threat

THREATS = [Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5), Threat(norm="l1", eps=3)]


def images(seed: int, count: int = 6) -> torch.Tensor:
    """Return images of which many pixels are black or white, as in photographs and drawings."""
    return (torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.3).clamp(0, 1)


def noise(seed: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def feasible(seed: int, centre: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return points of ball and box: moves into the box, shortened if they leave the ball."""
    delta = (centre + noise(seed, centre)).clamp(0, 1) - centre
    return centre + delta * (threat.eps / norm_of(delta, threat).view(-1, 1, 1, 1)).clamp(max=1)


def solve(x: np.ndarray, centre: np.ndarray, threat: Threat) -> np.ndarray:
    """Return the projection of one point, as SLSQP finds it: d = p - q with p, q >= 0, so that |d|_1 is smooth."""
    n, v = len(x), x - centre

    def objective(z):
        d = z[:n] - z[n:] - v
        return d @ d, 2 * np.concatenate([d, -d])

    if threat.norm == "l1":
        ball = {"type": "ineq", "fun": lambda z: threat.eps - z.sum(), "jac": lambda z: -np.ones(2 * n)}
    else:
        ball = {
            "type": "ineq",
            "fun": lambda z: threat.eps**2 - ((z[:n] - z[n:]) ** 2).sum(),
            "jac": lambda z: -2 * np.concatenate([z[:n] - z[n:], z[n:] - z[:n]]),
        }
    room = np.concatenate([1 - centre, centre])
    if threat.norm == "linf":
        room, ball = np.minimum(room, threat.eps), []
    found = minimize(
        objective,
        np.zeros(2 * n),
        jac=True,
        bounds=[(0, r) for r in room],
        constraints=ball,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return centre + found.x[:n] - found.x[n:]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_is_what_a_solver_finds(norm):
    rng = np.random.default_rng(0)
    active = 0
    for trial in range(40):
        n = int(rng.integers(2, 9))
        eps = float(rng.uniform(0.1, 0.9))
        threat = Threat(norm=norm, eps=eps)
        centre = np.clip(rng.uniform(-0.3, 1.3, n), 0, 1)
        x = centre + rng.normal(size=n) * rng.choice([0.2, 0.6, 2])
        found = project(torch.tensor(x)[None], torch.tensor(centre)[None], threat)[0].numpy()
        np.testing.assert_allclose(found, solve(x, centre, threat), atol=2e-5, err_msg=f"trial {trial}")
        clipped = ((found <= 0) | (found >= 1)) & (np.abs(found - centre) > 0)
        active += bool(
            clipped.any() and np.linalg.norm(found - centre, {"linf": np.inf, "l2": 2, "l1": 1}[norm]) > 0.99 * eps
        )
    assert active > 5, "ball and box must meet in some of the trials"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 3), threat=st.sampled_from(THREATS))
def test_projection_is_in_ball_and_box_and_is_idempotent(seed, scale, threat):
    centre = images(seed)
    once = project(centre + scale * noise(seed + 1, centre), centre, threat)
    assert norm_of(once - centre, threat).max() <= threat.eps * (1 + 1e-5)
    assert once.min() >= 0
    assert once.max() <= 1
    torch.testing.assert_close(project(once, centre, threat), once, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 3), threat=st.sampled_from(THREATS))
def test_no_feasible_point_is_closer(seed, scale, threat):
    """P is the projection of x on a convex set exactly if (x - P)(y - P) <= 0 for all y of the set."""
    centre = images(seed).double()
    x = centre + scale * noise(seed + 1, centre)
    found = project(x, centre, threat)
    for other in range(10):
        y = feasible(seed + 2 + other, centre, threat)
        assert ((x - found) * (y - found)).flatten(1).sum(1).max() <= 1e-5
        assert ((x - found).flatten(1).norm(dim=1) <= (x - y).flatten(1).norm(dim=1) + 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), threat=st.sampled_from(THREATS))
def test_points_inside_stay_where_they_are(seed, threat):
    centre = images(seed)
    inside = centre + 0.99 * (feasible(seed + 1, centre, threat) - centre)
    torch.testing.assert_close(project(inside, centre, threat), inside, rtol=0, atol=1e-6)


def test_l2_multiplier_is_found_where_pixels_differ_by_orders_of_magnitude():
    """Each clipped pixel is a kink that Newton's method has to pass; bisection in float64 is the judge."""
    rng = torch.Generator().manual_seed(0)
    delta = 10 ** (torch.rand(50, 400, generator=rng) * 7 - 5)
    centre = 1 - 10 ** (torch.rand(50, 400, generator=rng) * 4 - 4)
    threat = Threat(norm="l2", eps=0.7)
    found = project(centre + delta, centre, threat)
    room, wide = (1 - centre).double(), ((centre + delta) - centre).double()
    low, high = torch.zeros(50, 1, dtype=torch.float64), torch.ones(50, 1, dtype=torch.float64)
    for _ in range(80):
        middle = (low + high) / 2
        short = (middle * wide).minimum(room).norm(dim=1, keepdim=True) <= threat.eps
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    assert (low < 0.99).all()
    torch.testing.assert_close(found.double(), centre + (low * wide).minimum(room), rtol=0, atol=1e-5)


def test_l1_projection_is_the_public_codes():
    from pyautoattack.autopgd_base import L1_projection

    centre = images(3, 32)
    for scale in (0.05, 0.5, 2):
        x = centre + scale * noise(4, centre)
        theirs = x + L1_projection(centre, x - centre, 3.0)
        torch.testing.assert_close(project(x, centre, THREATS[2]), theirs, rtol=0, atol=2e-5)


def test_sparse_points_are_projected_in_l1_and_sparse_steps_taken_as_if_all_was_sorted(monkeypatch):
    """Alone, together, and beside a dense one, which has all entries sorted."""
    centre, share = images(7, 12), torch.linspace(0.02, 0.2, 12)
    x = centre + noise(8, centre) * 3 * (noise(9, centre).abs() > 1.7)
    assert (norm_of(x - centre, THREATS[2]) > 3).all()

    def outcomes(x, centre, share):
        return project(x, centre, THREATS[2]), ascent_direction(x - centre, THREATS[2], share=share)

    sorts, sort = [], torch.Tensor.sort
    monkeypatch.setattr(torch.Tensor, "sort", lambda *given, **named: (sorts.append(1), sort(*given, **named))[1])
    whole = outcomes(x, centre, share)
    assert not sorts
    alone = [outcomes(x[i : i + 1], centre[i : i + 1], share[i : i + 1]) for i in range(12)]
    dense = torch.cat([x, centre[:1] + noise(6, centre[:1])])
    beside = outcomes(dense, torch.cat([centre, centre[:1]]), torch.cat([share, torch.ones(1)]))
    assert len(sorts) == 2
    for n in range(2):
        assert torch.equal(torch.cat([each[n] for each in alone]), whole[n])
        assert torch.equal(beside[n][:-1], whole[n])


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_projection_treats_images_one_by_one_and_keeps_their_format(threat):
    centre = images(5, 12).contiguous(memory_format=torch.channels_last)
    x = centre + torch.linspace(0.01, 2, 12).view(-1, 1, 1, 1) * noise(6, centre)
    whole = project(x, centre, threat)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    parts = [project(a, c, threat) for a, c in zip(x.split(5), centre.split(5), strict=True)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-7)
    assert project(x[:0], centre[:0], threat).shape == (0, 3, 5, 5)


@pytest.mark.parametrize(("norm", "p"), [("linf", float("inf")), ("l2", 2), ("l1", 1)])
def test_norms_are_those_of_numpy(norm, p):
    delta = noise(1, images(0))
    expected = [np.linalg.norm(d.flatten().numpy(), p) for d in delta]
    np.testing.assert_allclose(norm_of(delta, Threat(norm=norm, eps=0.5)), expected, rtol=1e-5)
