"""Square Attack: its patterns and windows against the public code, and properties of the search."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.square import SquareAttack

from ops.attack.projections import norm_of, project
from ops.attack.square import square
from ops.attack.square_patches import Draws, chequerboard, corners, side_of_square, twin_peaks
from ops.attack.square_proposals import propose
from ops.attack.threat import Threat
from ops.models.windows import Windows
from tests.ops.attack.test_attacks import L1, L2, LINF, Linear, batch, net, right
from tests.ops.models.test_windows import NETWORKS, network, photographs

PEER = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def peer(threat, model, queries):
    name = PEER[threat.norm]
    return SquareAttack(model, name, queries, threat.eps, 0.8, seed=0, resc_schedule=False, device="cpu")


@pytest.mark.parametrize("threat", [L2, L1], ids=str)
@pytest.mark.parametrize("side", [3, 5, 6, 9])
def test_patterns_are_the_public_ones(threat, side):
    theirs = peer(threat, net(), 1)
    pattern = theirs.eta(side)
    ours = twin_peaks(side, threat.norm)
    assert torch.allclose(pattern, ours, atol=1e-6) or torch.allclose(pattern.T, ours, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_sides_follow_the_public_schedule(norm):
    theirs = peer({"linf": LINF, "l2": L2, "l1": L1}[norm], net(), 1)
    for query in (0, 10, 11, 50, 51, 200, 201, 1000, 1001, 4999, 7000, 9000):
        share = theirs.p_selection(query)
        side = max(round((share * 32 * 32) ** 0.5), 1 if norm == "linf" else 3)
        side += 1 - side % 2 if norm != "linf" else 0
        assert side_of_square(query, 32, 32, norm) == side


def test_corners_are_everywhere_inside():
    draws = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    top, left = corners(draws, 6, 9, 3)
    assert sorted(set(top.tolist())) == [0, 1, 2, 3]
    assert sorted(set(left.tolist())) == list(range(7))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 8, 8), (3, 12, 17)])
def test_boards_cover_the_image(shape):
    board = chequerboard(Draws(torch.arange(4), torch.device("cpu")), 4, shape, "l2")
    assert board.shape == (4, *shape)
    assert (board != 0).float().mean() > 0.6
    assert not torch.equal(board[0], board[1])


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_it_is_as_strong_as_the_public_code(threat):
    """Two random searches of one length: robust accuracies on 64 images differ by 4 at most."""
    model, (x, y) = net(), batch()
    wide = Threat(norm=threat.norm, eps={"linf": 3, "l2": 1.7, "l1": 1.8}[threat.norm] * threat.eps)
    theirs = right(model, peer(wide, model, 400).perturb(x, y), y)
    ours = right(model, square(model, x, y, wide, queries=400, example_seeds=torch.arange(64)), y)
    assert 3 < theirs < right(model, x, y) - 8, "the attack must have something to do, and to leave"
    assert abs(ours - theirs) <= 4


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(["l2", "l1"]),
    side=st.sampled_from([3, 5, 7, 9]),
    share=st.sampled_from([0.3, 1, 1.001]),
    seed=st.integers(0, 9999),
)
def test_a_proposal_is_that_of_the_whole_image(norm, side, share, seed):
    """Algorithm 3 as it is written, on all pixels: stretched to eps and clipped (L2), or projected (L1, the public code)."""
    order, eps = {"l2": (2, 0.5), "l1": (1, 8.0)}[norm]
    threat, rng, rows = Threat(norm=norm, eps=eps), torch.Generator().manual_seed(seed), torch.tensor([1, 0, 1, 2])
    centre, uniform = torch.rand(3, 3, 12, 14, generator=rng), torch.rand(4, 8, generator=rng)
    delta = torch.randn(3, 3, 12, 14, generator=rng)
    start = (centre + delta * (share * eps / norm_of(delta, threat)[:, None, None, None])).clamp(0, 1)
    proposal, at = propose(start, centre, rows, uniform, side, threat)
    places = [torch.stack(corners(each, 12, 14, side), dim=1) for each in (uniform[:, :2], uniform[:, 2:4])]
    for n, row in enumerate(rows):
        first, second = (torch.zeros(12, 14, dtype=torch.bool) for _ in range(2))
        for mask, corner in zip((first, second), places, strict=True):
            i, j = corner[n]
            mask[i : i + side, j : j + side] = True
        before = (start[row] - centre[row]).double()
        whole = float(before.flatten().norm(order))
        eta = twin_peaks(side, norm).double()
        pattern = (eta if uniform[n, 4] < 0.5 else eta.T) * torch.where(uniform[n, 5:] < 0.5, -1, 1)[:, None, None]
        old = before[:, first].reshape(3, side, side)
        bent = pattern + old / old.flatten(1).norm(order, dim=1)[:, None, None]
        kept = before[:, first | second].norm(order, dim=1)
        if norm == "l2":
            length = (max(eps**2 - whole**2, 0) / 3 + kept**2).sqrt()
        else:
            length = 3 * (max(eps - whole, 0) / 3 + kept)
        after = before.masked_fill(second, 0)
        after[:, first] = (bent / bent.flatten(1).norm(order, dim=1)[:, None, None] * length[:, None, None]).flatten(1)
        if norm == "l1":
            expected = project((centre[row] + after)[None], centre[row].double()[None], threat)[0]
        else:
            expected = (centre[row] + after * eps / after.norm()).clamp(0, 1)
            assert at.side == side
            assert torch.equal(proposal[n][:, ~(first | second)], start[row][:, ~(first | second)])
        if whole <= eps:
            torch.testing.assert_close(proposal[n].double(), expected, rtol=0, atol=1e-6 if norm == "l2" else 1e-5)
        largest = max(eps, whole) if norm == "l2" else eps
        assert (proposal[n] - centre[row]).flatten().norm(order) <= largest * (1 + 1e-5), "rounding does not add up"


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_what_it_finds_is_in_the_ball_and_does_not_depend_on_the_batch(threat):
    model, (x, y), seeds = net(), batch(24), torch.arange(24)
    x = (x * 1.6 - 0.3).clamp(0, 1)
    found = square(model, x, y, threat, queries=60, example_seeds=seeds)
    assert norm_of(found - x, threat).max() <= threat.eps * (1 + 1e-4)
    assert found.min() >= 0
    assert found.max() <= 1
    parts = [square(model, x[i], y[i], threat, queries=60, example_seeds=seeds[i]) for i in seeds.split(7)]
    torch.testing.assert_close(torch.cat(parts), found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_more_queries_never_help_the_model(threat):
    model, (x, y) = net(), batch()
    robust = [
        right(model, square(model, x, y, threat, queries=n, example_seeds=torch.arange(64)), y) for n in (0, 20, 300)
    ]
    assert robust == sorted(robust, reverse=True)
    assert robust[0] > robust[-1]


def test_it_breaks_a_model_without_gradients():
    """Quantised logits stop every gradient; the linear model behind them has a known worst case."""
    model = Linear()
    x = 0.5 + 0.2 * (torch.rand(100, 3, 8, 8, generator=torch.Generator().manual_seed(2)) - 0.5)

    class Masked(torch.nn.Module):
        def forward(self, x):
            return (model(x) * 50).round() / 50

    score = model(x).diff(dim=1).squeeze(1)
    y = (score > 0).long()
    threat = Threat(norm="linf", eps=0.02)
    fall = threat.eps * model.w.abs().sum()
    survived = Masked()(square(Masked(), x, y, threat, queries=1500, example_seeds=torch.arange(100))).argmax(1) == y
    assert not survived[score.abs() < 0.8 * fall].any()
    assert survived[score.abs() > 1.01 * fall].all()


@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=0.02), Threat(norm="l2", eps=0.5)], ids=str)
def test_small_squares_are_asked_for_alone_and_find_the_same(threat, monkeypatch):
    """A network whose maps are remembered, on images some of which fall early, some late, and some never."""
    model, x = network(NETWORKS["wide"]), photographs(40, 24, 24, 0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    seeds, found, passes, answered = torch.arange(40), [], [], []
    monkeypatch.setattr(
        Windows, "keep", lambda *given, keep=Windows.keep: (answered.append(len(given[1])), keep(*given))
    )
    for remembers in (True, False):
        if not remembers:
            monkeypatch.setattr("ops.attack.square.remember", lambda *_, **__: None)
        passes.append(torch.zeros_like(seeds))
        found.append(square(model, x, y, threat, queries=600, pace=5, example_seeds=seeds, passes=passes[-1]))
    assert sum(answered) > 5000
    assert len(set(answered)) > 10, "some queries are asked for together"
    assert len(set(passes[0].tolist())) > 20
    same = (found[0] == found[1]).flatten(1).all(dim=1) & (passes[0] == passes[1])
    assert same.sum() >= 36, "but for searches that rounding turned"
