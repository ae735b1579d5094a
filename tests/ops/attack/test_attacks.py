"""PGD and APGD: a model whose worst case is known in closed form, and the reference implementation."""

import functools

import pytest
import torch
from torch import nn

from ops.attack.apgd import apgd, apgd_targeted, checkpoints
from ops.attack.fab import fab, fab_targeted
from ops.attack.multitargeted import multitargeted
from ops.attack.pgd import default_size, pgd, sparse_shares
from ops.attack.projections import ascent_direction, norm_of, project, random_start
from ops.attack.threat import Threat
from ops.errors import AmalgamError

LINF, L2, L1 = Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5), Threat(norm="l1", eps=2)
PIXELS = 3 * 8 * 8


class Linear(nn.Module):
    """Two classes, logits -+ (w x + b) / 2."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(PIXELS, generator=rng))
        self.b = nn.Parameter(-self.w.detach().sum() / 2)

    def forward(self, x):
        score = x.flatten(1) @ self.w + self.b
        return torch.stack([-score, score], dim=1) / 2


@functools.cache
def net(seed: int = 0) -> nn.Module:
    """Return a small smooth network, fitted to random labels so that it has margins of both signs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.SiLU(), nn.Conv2d(12, 12, 3, 2), nn.SiLU(), nn.Flatten()
        )
        model.append(nn.Linear(12 * 9, 4))
    x, y = batch()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def right(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    return int((model(x).argmax(1) == y).sum())


def batch(count: int = 64):
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(count, 3, 8, 8, generator=rng)
    return x, torch.randint(0, 4, (count,), generator=rng)


def adam_pgd(*args, **kwargs):
    return pgd(*args, **kwargs, rule="adam")


def adam_multitargeted(*args, **kwargs):
    return multitargeted(*args, **kwargs, rule="adam")


CASES = [(attack, threat) for attack in (pgd, apgd, multitargeted) for threat in (LINF, L2, L1)]
CASES += [(attack, threat) for attack in (adam_pgd, adam_multitargeted) for threat in (LINF, L2)]
EXACT = [case for case in CASES if case[0] not in (adam_pgd, adam_multitargeted) or case[1] is LINF]
NEAREST = [(attack, threat) for attack in (fab, fab_targeted) for threat in (LINF, L2, L1)]
TARGETED = [(apgd_targeted, threat) for threat in (LINF, L2, L1)]


@pytest.mark.parametrize(("attack", "threat"), EXACT + NEAREST)
def test_a_linear_model_meets_its_closed_form(attack, threat):
    """Away from the borders the worst point lowers w x + b by eps |w|_q, the dual norm: q = 1, 2 and inf."""
    model = Linear()
    rng = torch.Generator().manual_seed(2)
    x = 0.5 + 0.2 * (torch.rand(200, 3, 8, 8, generator=rng) - 0.5)
    threat = Threat(norm=threat.norm, eps={"linf": 0.004, "l2": 0.04, "l1": 0.2}[threat.norm])
    fall = threat.eps * model.w.norm(p={"linf": 1, "l2": 2, "l1": torch.inf}[threat.norm])
    scores = x.flatten(1) @ model.w + model.b
    y = (scores > 0).long()
    truly_robust = scores.abs() > fall
    found = attack(model, x, y, threat, steps=30, example_seeds=torch.arange(200))
    survived = model(found).argmax(1) == y
    assert 0.1 < truly_robust.float().mean() < 0.9
    # FAB ends a little beyond the boundary: from 0.9 of the way it steps 1.05 times as far as the plane
    near = (scores.abs() - fall).abs() < (1e-2 if attack in (fab, fab_targeted) else 2e-3) * fall
    assert torch.equal(survived[~near], truly_robust[~near])


@pytest.mark.parametrize(("attack", "threat"), EXACT)
def test_a_linear_model_meets_its_closed_form_at_the_borders(attack, threat):
    """Where pixels are black or white, each norm's worst case fills the room that the box leaves."""
    model, label = Linear(), torch.ones(40, dtype=torch.int64)
    model.b = nn.Parameter(torch.tensor(200.0))  # nothing is misclassified, so that attacks return their best point
    x = (torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 1.6 - 0.3).clamp(0, 1)
    expected = worst_fall(-model.w.detach().expand(40, -1), x.flatten(1), threat)
    options = {"loss": "margin"} if attack in (pgd, apgd, adam_pgd) else {}
    options |= {"step_size": threat.eps / 4} if attack in (pgd, multitargeted) else {}
    found = attack(model, x, label, threat, steps=40, example_seeds=torch.arange(40), **options)
    fall = -(found - x).flatten(1) @ model.w.detach()
    assert (fall <= expected * (1 + 1e-4)).all()
    # which pixels are full is a matter of search in L1: nearly all images, not each, end at the optimum
    assert (fall >= expected * (0.85 if threat.norm == "l1" else 0.99)).all()
    assert (fall / expected).mean() >= 0.99


def worst_fall(push, x, threat):
    """Return max push d (N,) over ball and box: all pixels (L-inf), bisection (L2), the steepest pixels first (L1)."""
    room = torch.where(push > 0, 1 - x, x)
    if threat.norm == "linf":
        return (push.abs() * room.clamp(max=threat.eps)).sum(dim=1)
    if threat.norm == "l1":
        order = push.abs().argsort(dim=1, descending=True)
        steepest, room = push.abs().gather(1, order), room.gather(1, order)
        used = (room.cumsum(dim=1)).clamp(max=threat.eps)
        return (steepest * used.diff(dim=1, prepend=torch.zeros(len(x), 1))).sum(dim=1)
    low, high = torch.zeros(len(x), 1), torch.full((len(x), 1), 100.0)
    for _ in range(60):
        middle = (low + high) / 2
        short = (middle * push.abs()).minimum(room).norm(dim=1, keepdim=True) <= threat.eps
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (push.abs() * (low * push.abs()).minimum(room)).sum(dim=1)


@pytest.mark.parametrize(("attack", "threat"), CASES + NEAREST + TARGETED)
def test_adversarial_images_are_in_the_ball_and_in_the_box(attack, threat):
    """And they do not depend on the batch."""
    model, (x, y), seeds = net(), batch(24), torch.arange(24)
    x = (x * 1.6 - 0.3).clamp(0, 1)
    found = attack(model, x, y, threat, steps=8, example_seeds=seeds)
    assert norm_of(found - x, threat).max() <= threat.eps * (1 + 1e-4)
    least = 0.5 if attack in (fab, fab_targeted) else 0.99
    assert norm_of(found - x, threat).max() >= threat.eps * least
    assert found.min() >= 0
    assert found.max() <= 1
    assert all(p.grad is None for p in model.parameters()), "attacks leave no gradients behind"
    parts = [attack(model, x[i], y[i], threat, steps=8, example_seeds=seeds[i]) for i in seeds.split(7)]
    torch.testing.assert_close(torch.cat(parts), found, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("threat", "norm"), [(LINF, "Linf"), (L2, "L2"), (L1, "L1")])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_is_as_strong_as_the_reference(threat, norm, loss):
    """pyautoattack's APGD is bit-identical to the published code; robust accuracies agree within two images of 64."""
    from pyautoattack.autopgd_base import APGDAttack

    model, (x, y) = net(), batch()
    reference = APGDAttack(model, n_restarts=1, n_iter=50, eps=threat.eps, norm=norm, loss=loss, seed=0, device="cpu")
    theirs_right = right(model, reference.perturb(x, y), y)
    ours_right = right(model, apgd(model, x, y, threat, steps=50, loss=loss, example_seeds=torch.arange(len(x))), y)
    assert 3 < theirs_right < right(model, x, y) - 10, "the attack must have something to do, and to leave"
    assert abs(ours_right - theirs_right) <= 2


@pytest.mark.parametrize(("threat", "norm"), [(LINF, "Linf"), (L1, "L1")])
def test_targeted_apgd_is_as_strong_as_the_reference(threat, norm):
    from pyautoattack.autopgd_base import APGDAttack_targeted

    model, (x, y) = net(), batch()
    reference = APGDAttack_targeted(
        model, n_iter=30, eps=threat.eps, norm=norm, seed=0, n_target_classes=3, device="cpu"
    )
    theirs_right = right(model, reference.perturb(x, y), y)
    ours_right = right(model, apgd_targeted(model, x, y, threat, steps=30, example_seeds=torch.arange(64)), y)
    assert 3 < theirs_right < 54
    assert abs(ours_right - theirs_right) <= 2


@pytest.mark.parametrize(("threat", "norm"), [(LINF, "Linf"), (L2, "L2"), (L1, "L1")])
@pytest.mark.parametrize("targeted", [True, False])
def test_fab_is_as_strong_as_the_reference(threat, norm, targeted):
    """Image for image: neither code draws anything, so that only rounding can tell their paths apart."""
    from pyautoattack.fab_pt import FABAttack_PT

    model, (x, y) = net(), batch()
    options = {"n_restarts": 1, "n_iter": 40, "eps": threat.eps, "norm": norm, "n_target_classes": 3}
    theirs = model(FABAttack_PT(model, **options, targeted=targeted, device="cpu").perturb(x, y)).argmax(1) == y
    ours = model((fab_targeted if targeted else fab)(model, x, y, threat, steps=40, example_seeds=y)).argmax(1) == y
    assert 3 < int(theirs.sum()) < right(model, x, y) - 8
    assert int((ours != theirs).sum()) <= 1


def textbook_pgd(model, x, y, threat, steps, seeds):
    """PGD as in the papers, one example at a time, stopped at the first misclassified iterate."""
    found = []
    for n in range(len(x)):
        centre, label = x[n : n + 1], y[n : n + 1]
        point, best, best_loss = random_start(centre, threat, seeds[n : n + 1]), None, -torch.inf
        for step in range(steps + 1):
            point = point.detach().requires_grad_(True)
            logits = model(point)
            loss = nn.functional.cross_entropy(logits, label)
            if loss.item() > best_loss:
                best, best_loss = point.detach(), loss.item()
            if int(logits.argmax()) != int(label):
                best = point.detach()
                break
            if step < steps:
                (gradient,) = torch.autograd.grad(loss, point)
                point = project(
                    point.detach() + 2.5 * threat.eps / steps * ascent_direction(gradient, threat), centre, threat
                )
        found.append(best)
    return torch.cat(found)


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_pgd_is_the_textbooks(threat):
    """Whole batches do what one example at a time does."""
    model, (x, y), seeds = net(), batch(40), torch.arange(40)
    expected = textbook_pgd(model, x, y, threat, 15, seeds)
    found = pgd(model, x, y, threat, steps=15, example_seeds=seeds)
    assert torch.equal(model(found).argmax(1) == y, model(expected).argmax(1) == y)
    different = (found - expected).abs().flatten(1).amax(1) > 1e-4
    assert int(different.sum()) <= 1, "the sign of a gradient near 0 may turn on rounding"


def test_review_steps_are_those_of_the_paper():
    """Algorithm 1: p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), times 100 steps."""
    p = [0.0, 0.22]
    while p[-1] + max(p[-1] - p[-2] - 0.03, 0.06) <= 1 + 1e-9:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    assert checkpoints(100) == [round(100 * v) for v in p[1:]]


def test_more_budget_never_helps_the_model():
    model, (x, y) = net(), batch()
    robust = []
    for eps in (1, 4, 8, 16):
        found = apgd(model, x, y, Threat(norm="linf", eps=eps / 255), steps=20, example_seeds=torch.arange(len(x)))
        robust.append(right(model, found, y))
    assert robust == sorted(robust, reverse=True)
    assert robust[0] > robust[-1]


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
@pytest.mark.parametrize("attack", [pgd, multitargeted, apgd, fab])
def test_more_restarts_never_help_the_model(attack, threat):
    """What one restart breaks stays broken, and what it finds is kept unless another finds better."""
    model, (x, y) = net(), batch()
    options = {"steps": 2, "example_seeds": torch.arange(64)}
    options |= {"step_size": threat.eps / 2} if attack in (pgd, multitargeted) else {}
    found = [attack(model, x, y, threat, restarts=restarts, **options) for restarts in (1, 3, 6)]
    broken = [model(f).argmax(1) != y for f in found]
    values = [targeted_margin_of_all(model, f, y) for f in found]
    for fewer, more in ((0, 1), (1, 2)):
        assert (broken[fewer] <= broken[more]).all()
        assert torch.equal(found[more][broken[fewer]], found[fewer][broken[fewer]])
    if attack is multitargeted:
        assert (values[2] >= values[0] - 1e-5)[~broken[2]].all()
    assert attack is fab or not torch.equal(found[0], found[2]), "FAB keeps nothing of attempts that fail"


def targeted_margin_of_all(model, x, y):
    z = model(x).detach()
    return z.scatter(1, y[:, None], -torch.inf).amax(1) - z.gather(1, y[:, None]).squeeze(1)


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_more_steps_of_one_size_never_help_the_model(threat):
    model, (x, y), seeds = net(), batch(), torch.arange(64)
    counts = []
    for steps in (0, 2, 5, 10, 20):
        found = pgd(model, x, y, threat, steps=steps, step_size=threat.eps / 5, loss="dlr", example_seeds=seeds)
        counts.append(right(model, found, y))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] + 10


def test_multitargeted_is_at_least_as_strong_as_pgd_and_counts_targets():
    """All targets beat the first alone; numbers of targets beyond K - 1 are all; the rest of the images come back."""
    model, (x, y), seeds = net(), batch(), torch.arange(64)
    plain = right(model, pgd(model, x, y, L2, steps=20, example_seeds=seeds), y)
    options = {"steps": 20, "example_seeds": seeds}
    one, three, many = (multitargeted(model, x, y, L2, targets=count, **options) for count in (1, 3, 50))
    assert torch.equal(three, many)
    assert torch.equal(three, multitargeted(model, x, y, L2, **options))
    assert right(model, three, y) <= min(right(model, one, y), plain)
    wrong = (y + 1) % 4
    assert torch.equal(
        multitargeted(model, x, wrong, L2, **options)[y == model(x).argmax(1)], x[y == model(x).argmax(1)]
    )


def test_starts_of_pgd():
    model, (x, y), seeds = net(), batch(), torch.arange(64)
    options = {"steps": 0, "step_size": 0.01, "example_seeds": seeds}
    assert torch.equal(pgd(model, x, y, LINF, start="none", **options), x)
    assert 0 < (pgd(model, x, y, LINF, start="gaussian", **options) - x).abs().max() < 0.006


def test_adams_rates_are_not_sizes():
    model, (x, y) = net(), batch(4)
    with pytest.raises(ValueError, match="belongs to the rule steepest"):
        pgd(model, x, y, LINF, steps=2, step_size=0.1, rule="adam", example_seeds=torch.arange(4))
    with pytest.raises(AmalgamError, match="set the rule to steepest"):
        pgd(model, x, y, L1, steps=2, rule="adam", example_seeds=torch.arange(4))


def test_l1_steps_of_an_evaluation_grow_sparse():
    shares = sparse_shares(20, 12, 3072)
    assert shares[0] == 0.2
    assert shares == sorted(shares, reverse=True)
    assert shares[10:] == pytest.approx([12 / 3072] * 10)
    assert sparse_shares(1, 500, 192) == [1]


def test_default_sizes():
    """2.5 eps / steps as usual; in L1 no shorter than eps / 4."""
    assert default_size(LINF, 10) == pytest.approx(LINF.eps / 4)
    assert default_size(L2, 50) == pytest.approx(L2.eps / 20)
    assert default_size(L1, 50) == pytest.approx(L1.eps / 4)
