"""PGD and APGD: a model whose worst case is known in closed form, and the reference implementation."""

import pytest
import torch
from torch import nn

from ops.attack.apgd import apgd, checkpoints
from ops.attack.pgd import margin, pgd
from ops.attack.projections import ascent_direction, norm_of, project, random_start
from ops.attack.threat import Threat

LINF, L2 = Threat(norm="linf", eps=8 / 255), Threat(norm="l2", eps=0.5)
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


def batch(count: int = 64):
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(count, 3, 8, 8, generator=rng)
    return x, torch.randint(0, 4, (count,), generator=rng)


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_a_linear_model_meets_its_closed_form(attack):
    """For w x + b, images away from the borders: the worst L-inf point lowers the score by eps |w|_1, the L2 by eps |w|_2."""
    model = Linear()
    rng = torch.Generator().manual_seed(2)
    x = 0.5 + 0.2 * (torch.rand(200, 3, 8, 8, generator=rng) - 0.5)
    for threat, dual in ((Threat(norm="linf", eps=0.004), 1), (Threat(norm="l2", eps=0.04), 2)):
        scores = x.flatten(1) @ model.w + model.b
        y = (scores > 0).long()
        truly_robust = scores.abs() > threat.eps * model.w.norm(p=dual)
        found = attack(model, x, y, threat, steps=30, example_seeds=torch.arange(200))
        survived = model(found).argmax(1) == y
        assert 0.1 < truly_robust.float().mean() < 0.9
        near = (scores.abs() - threat.eps * model.w.norm(p=dual)).abs() < 1e-3
        assert torch.equal(survived[~near], truly_robust[~near])


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("attack", [pgd, apgd])
def test_results_do_not_depend_on_the_batch(attack, threat):
    model, (x, y), seeds = net(), batch(24), torch.arange(24)
    whole = attack(model, x, y, threat, steps=12, example_seeds=seeds)
    parts = [attack(model, x[i], y[i], threat, steps=12, example_seeds=seeds[i]) for i in seeds.split(7)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("attack", [pgd, apgd])
def test_adversarial_images_are_in_the_ball_and_in_the_box(attack, threat):
    model, (x, y) = net(), batch()
    found = attack(model, x, y, threat, steps=10, example_seeds=torch.arange(len(x)))
    assert norm_of(found - x, threat).max() <= threat.eps * (1 + 1e-4)
    assert found.min() >= 0
    assert found.max() <= 1
    assert all(p.grad is None for p in model.parameters()), "attacks leave no gradients behind"


@pytest.mark.parametrize(("threat", "norm"), [(LINF, "Linf"), (L2, "L2")])
def test_apgd_is_as_strong_as_the_reference(threat, norm):
    """pyautoattack's APGD-CE is bit-identical to the published code; robust accuracies agree within two images of 64."""
    from pyautoattack.autopgd_base import APGDAttack

    model, (x, y) = net(), batch()
    reference = APGDAttack(model, n_restarts=1, n_iter=50, eps=threat.eps, norm=norm, loss="ce", seed=0, device="cpu")
    theirs = reference.perturb(x, y)
    ours = apgd(model, x, y, threat, steps=50, example_seeds=torch.arange(len(x)))
    ours_right = int((model(ours).argmax(1) == y).sum())
    theirs_right = int((model(theirs).argmax(1) == y).sum())
    clean_right = int((model(x).argmax(1) == y).sum())
    assert theirs_right < clean_right - 10, "the attack must have something to do"
    assert theirs_right > 3
    assert abs(ours_right - theirs_right) <= 2


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


def test_margin_by_hand():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.5]])
    assert margin(logits, torch.tensor([1, 1])).tolist() == [-1.0, 5.0]


def test_more_budget_never_helps_the_model():
    model, (x, y) = net(), batch()
    robust = []
    for eps in (1, 4, 8, 16):
        found = apgd(model, x, y, Threat(norm="linf", eps=eps / 255), steps=20, example_seeds=torch.arange(len(x)))
        robust.append(int((model(found).argmax(1) == y).sum()))
    assert robust == sorted(robust, reverse=True)
    assert robust[0] > robust[-1]
