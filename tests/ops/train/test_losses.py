"""Losses against scipy, finite differences, and the cases that public code turns into NaN."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from ops.errors import AmalgamError
from ops.train.losses import focal, kl_divergence, mart, smoothed, soft_cross_entropy, trades

RNG = np.random.default_rng(0)
CLEAN, ADVERSARIAL = RNG.normal(size=(2, 16, 5)) * 3
TARGETS = softmax(RNG.normal(size=(16, 5)), axis=1)


def test_kl_is_scipys():
    expected = rel_entr(softmax(CLEAN, axis=1), softmax(ADVERSARIAL, axis=1)).sum(axis=1)
    found = kl_divergence(torch.from_numpy(CLEAN), torch.from_numpy(ADVERSARIAL))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_soft_cross_entropy_is_its_definition_and_torchs_for_hard_labels():
    found = soft_cross_entropy(torch.from_numpy(CLEAN), torch.from_numpy(TARGETS))
    np.testing.assert_allclose(found, -(TARGETS * log_softmax(CLEAN, axis=1)).sum(axis=1), rtol=1e-9)
    labels = torch.from_numpy(RNG.integers(0, 5, 16))
    hard = smoothed(labels, 5, torch.zeros(16)).double()
    reference = torch.nn.functional.cross_entropy(torch.from_numpy(CLEAN), labels, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(torch.from_numpy(CLEAN), hard), reference)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_and_its_gradient_are_those_of_the_paper(gamma):
    """-(1 - p_t)^gamma log p_t; dFL/dz_j = (gamma (1 - p_t)^(gamma - 1) p_t log p_t - (1 - p_t)^gamma) (1[j = t] - p_j)."""
    labels, p, rows = RNG.integers(0, 5, 16), softmax(CLEAN, axis=1), np.arange(16)
    met, hot = p[rows, labels], np.eye(5)[labels]
    logits = torch.from_numpy(CLEAN).requires_grad_(True)
    found = focal(logits, torch.from_numpy(hot), gamma)
    np.testing.assert_allclose(found.detach(), -((1 - met) ** gamma) * np.log(met), rtol=1e-9)
    found.sum().backward()
    slope = gamma * (1 - met) ** (gamma - 1) * met * np.log(met) - (1 - met) ** gamma
    np.testing.assert_allclose(logits.grad, slope[:, None] * (hot - p), rtol=1e-9, atol=1e-12)


def test_focal_loss_of_soft_targets_is_the_mean_over_labels_drawn_from_them():
    logits = torch.from_numpy(CLEAN).requires_grad_(True)
    classes = [focal(logits, torch.eye(5, dtype=torch.float64)[[k] * 16], 2.0) for k in range(5)]
    expected = (torch.from_numpy(TARGETS) * torch.stack(classes, dim=1)).sum(dim=1)
    torch.testing.assert_close(focal(logits, torch.from_numpy(TARGETS), 2.0), expected)
    assert torch.autograd.gradcheck(lambda z: focal(z, torch.from_numpy(TARGETS), 0.5), logits)
    plain = soft_cross_entropy(logits, torch.from_numpy(TARGETS))
    torch.testing.assert_close(focal(logits, torch.from_numpy(TARGETS), 0.0), plain)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_what_is_certain_is_no_nan(gamma):
    certain = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    value = focal(certain, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), gamma)
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.tensor([0.0, 600.0]))
    assert torch.isfinite(certain.grad).all()


def test_trades_by_hand():
    """Two classes, logits (0, 0) against (log 3, 0): CE = log 2, KL(1/2,1/2 || 3/4,1/4) = log 2 - log 3 / 2."""
    clean, adversarial = torch.zeros(1, 2), torch.tensor([[np.log(3.0), 0.0]], dtype=torch.float32)
    found = trades(clean, adversarial, torch.tensor([[1.0, 0.0]]), beta=6.0)
    assert abs(float(found) - (np.log(2) + 6 * (np.log(2) - np.log(3) / 2))) < 1e-6


def test_the_gradient_flows_through_both_logits():
    clean, adversarial = (torch.from_numpy(v).requires_grad_(True) for v in (CLEAN, ADVERSARIAL))
    targets = torch.from_numpy(TARGETS)
    assert torch.autograd.gradcheck(lambda c, a: trades(c, a, targets, 6.0), (clean, adversarial))
    kl_divergence(clean, adversarial).sum().backward()
    assert clean.grad.abs().sum() > 0
    assert adversarial.grad.abs().sum() > 0


def test_a_probability_that_underflows_is_no_nan():
    clean = torch.tensor([[200.0, -200.0]], requires_grad=True)
    adversarial = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    value = kl_divergence(clean, adversarial)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(clean.grad).all()
    assert torch.isfinite(adversarial.grad).all()


def test_smoothing_is_per_example():
    found = smoothed(torch.tensor([0, 2]), 4, torch.tensor([0.0, 0.2]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0, 0], [0.05, 0.05, 0.85, 0.05]]))


def test_labels_out_of_range_are_named():
    with pytest.raises(AmalgamError, match="from 0 to 4, but there are 4 classes"):
        smoothed(torch.tensor([0, 4]), 4, torch.zeros(2))


def test_mart_is_its_definition():
    """Equation 11 written out with numpy: boosted cross-entropy, and KL weighted by 1 - p_y of the clean image."""
    labels = RNG.integers(0, 5, 16)
    p, q = softmax(CLEAN, axis=1), softmax(ADVERSARIAL, axis=1)
    rows = np.arange(16)
    wrong = q.copy()
    wrong[rows, labels] = 0
    boosted = -np.log(q[rows, labels]) - np.log(1 - wrong.max(axis=1))
    expected = (boosted + 5.0 * rel_entr(p, q).sum(axis=1) * (1 - p[rows, labels])).mean()
    found = mart(*(torch.from_numpy(v) for v in (CLEAN, ADVERSARIAL, labels)), beta=5.0)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_marts_gradient_is_that_of_finite_differences_and_never_nan():
    clean, adversarial = (torch.from_numpy(v).requires_grad_(True) for v in (CLEAN[:4], ADVERSARIAL[:4]))
    labels = torch.tensor([0, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda c, a: mart(c, a, labels, 5.0), (clean, adversarial))
    certain = torch.tensor([[-300.0, 300.0, -300.0]], requires_grad=True)
    value = mart(torch.zeros(1, 3), certain, torch.tensor([0]), 5.0)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(certain.grad).all()
