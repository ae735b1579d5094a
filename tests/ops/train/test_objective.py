"""What a step minimises: protocol of BatchNorm, aims of the attack, gradients."""

import pytest
import torch

from ops.attack.threat import Threat
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.train.inner import inner_attack, starting_point
from ops.train.losses import kl_divergence, soft_cross_entropy
from ops.train.objective import Objective
from ops.train.recipe import InnerAttack, Recipe

SMALL = Architecture(widths=[6, 8], blocks=[1, 1], stem_stride=2)
LINF = Threat(norm="linf", eps=8 / 255)


def recipe(loss: str, **changes) -> Recipe:
    base = {"loss": loss, "threat": LINF, "attack": {"steps": 3}, "schedule": {"epochs": 1}}
    return Recipe.model_validate(base | changes)


def net(seed: int = 0, head: bool = True):
    made = build_classifier(SMALL, 3, [0.5] * 3, [0.25] * 3, seed)
    if head:
        torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(seed))
    return made


def batch(count: int = 10):
    rng = torch.Generator().manual_seed(5)
    x = torch.rand(count, 3, 16, 16, generator=rng)
    return x, torch.eye(3)[torch.arange(count) % 3]


def start(x, config=InnerAttack()):  # noqa: B008
    return starting_point(x, LINF, config, torch.Generator().manual_seed(1))


def running(made) -> list[torch.Tensor]:
    return [b.clone() for n, b in made.named_buffers() if "running" in n]


@pytest.mark.parametrize("loss", ["trades", "mart", "pgd_at"])
def test_only_the_adversarial_pass_moves_running_statistics(loss):
    """They must be those of a twin that has seen nothing but the adversarial images."""
    made, twin, (x, y) = net(), net(), batch()
    chosen, begin = recipe(loss), start(x)
    Objective(made, chosen)(x, begin, y)
    aim = y
    if loss == "trades":
        throwaway = net().train()
        aim = throwaway(x).softmax(1).detach()
    adversarial = inner_attack(net().train(), x, begin, aim, LINF, chosen.attack)
    twin.train()(adversarial)
    for mine, theirs in zip(running(made), running(twin), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert made.training


def test_trades_is_written_out():
    """Value and gradient of a step equal the formula on the same adversarial images, by plain autograd."""
    made, twin, (x, y) = net(), net().train(), batch()
    chosen, begin = recipe("trades", beta=6.0), start(x)
    loss, figures = Objective(made, chosen)(x, begin, y)
    loss.backward()
    adversarial = inner_attack(twin, x, begin, twin(x).softmax(1).detach(), LINF, chosen.attack)
    clean, logits = twin(x), twin(adversarial)
    expected = soft_cross_entropy(clean, y).mean() + 6.0 * kl_divergence(clean, logits).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    for (name, mine), theirs in zip(made.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
    rise = (soft_cross_entropy(logits, y) - soft_cross_entropy(clean, y)).mean()
    assert float(figures["attack strength"]) == pytest.approx(float(rise.detach()), abs=1e-4)
    assert float(kl_divergence(clean, logits).mean().detach()) > 1e-3, "the attack must have moved the prediction"


def test_the_gradient_of_trades_is_that_of_finite_differences():
    """In double precision, for fixed adversarial images, along random directions of all weights."""
    made, (x, y) = net().double().train(), batch(6)
    x, y = x.double(), y.double()
    adversarial = (x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)).clamp(
        0, 1
    )

    def value() -> torch.Tensor:
        clean = made(x)
        return soft_cross_entropy(clean, y).mean() + 6 * kl_divergence(clean, made(adversarial)).mean()

    made.zero_grad()
    value().backward()
    rng = torch.Generator().manual_seed(3)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in made.parameters()]
        analytic = sum(float((p.grad * d).sum()) for p, d in zip(made.parameters(), directions, strict=True))
        sides = []
        for sign in (1e-6, -2e-6):
            with torch.no_grad():
                for p, d in zip(made.parameters(), directions, strict=True):
                    p.add_(sign * d)
            sides.append(float(value().detach()))
        with torch.no_grad():
            for p, d in zip(made.parameters(), directions, strict=True):
                p.add_(1e-6 * d)
        assert analytic == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4)


def test_a_head_of_zeros_starts_with_no_kl():
    """Uniform logits: the loss is log K whatever the attack, and beta does not matter."""
    x, y = batch()
    for beta in (0.0, 6.0):
        loss, figures = Objective(net(head=False), recipe("trades", beta=beta))(x, start(x), y)
        assert float(loss.detach()) == pytest.approx(torch.log(torch.tensor(3.0)).item(), abs=1e-5)
        assert float(figures["attack strength"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("method", "aims_at_labels"), [("none", False), ("cutmix", True)])
def test_trades_aims_at_the_prediction_or_at_mixed_labels(method, aims_at_labels, monkeypatch):
    seen = []

    def spy(model, x, start, targets, threat, config, scale):
        seen.append(targets)
        return x

    monkeypatch.setattr("ops.train.objective.inner_attack", spy)
    made, (x, y) = net(), batch()
    Objective(made, recipe("trades", augmentation={"mixing": {"method": method}}))(x, x, y)
    assert torch.equal(seen[0], y) == aims_at_labels
    assert not seen[0].requires_grad


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_worst_case_of_a_linear_model_is_found(norm):
    """CE(w x, y) of two classes falls with y w x alone: the worst d has norm eps and costs eps ||w||_dual of the margin."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.randn(3 * 8 * 8, generator=torch.Generator().manual_seed(0)))

        def forward(self, x):
            score = (x - 0.5).flatten(1) @ self.w
            return torch.stack([-score, score], dim=1) / 2

    model = Linear().train()
    x = 0.5 + 0.1 * (torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5)
    y = torch.eye(2)[torch.arange(20) % 2]
    eps, dual = {"linf": (0.01, 1), "l2": (0.1, 2), "l1": (0.2, torch.inf)}[norm]
    threat = Threat(norm=norm, eps=eps)
    config = InnerAttack(steps=60, step_size=0.25)
    begin = starting_point(x, threat, config, torch.Generator().manual_seed(2))
    found = inner_attack(model, x, begin, y, threat, config)
    signs = y[:, 1] * 2 - 1
    lost = (signs * ((x - found).flatten(1) @ model.w)).detach()
    bound = eps * float(model.w.detach().norm(p=dual))
    assert lost.max() <= bound * (1 + 1e-4)
    if norm == "l1":  # sparse steps move the best 5 % of the pixel values alike, where the worst case moves one
        bound = eps * float(model.w.detach().abs().topk(10).values.mean())
    assert lost.min() >= bound * (0.99 if norm == "l1" else 0.999)
