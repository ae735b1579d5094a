"""What attacks maximise: by hand, against torch's own, and by invariance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.attack.objectives import (
    Objective,
    cross_entropy,
    dlr,
    evaluate_objective,
    margin,
    objective_of,
    targeted_dlr,
    targeted_margin,
)
from ops.errors import AmalgamError


def logits(seed: int = 0, classes: int = 5) -> torch.Tensor:
    return 3 * torch.randn(8, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
TARGETS = (LABELS + 1) % 5


def test_margins_by_hand():
    z = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.5]])
    assert margin(z, torch.tensor([1, 1])).tolist() == [-1.0, 5.0]
    assert targeted_margin(z, torch.tensor([1, 1]), torch.tensor([0, 2])).tolist() == [-2.0, 4.5]


def test_dlr_by_hand():
    """-(z_y - max_{k != y} z_k) / (z_(1) - z_(3)), right and wrong."""
    z = torch.tensor([[1.0, 4.0, 2.0, 0.0], [1.0, 4.0, 2.0, 0.0]], dtype=torch.float64)
    assert dlr(z, torch.tensor([1, 0])).tolist() == pytest.approx([-2 / 3, 3 / 3])
    found = targeted_dlr(z, torch.tensor([1, 2]), torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([-3 / 3.5, 2 / 3.5])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_dlr_does_not_change_with_scale_and_shift(seed, scale, shift):
    z = logits(seed)
    torch.testing.assert_close(dlr(scale * z + shift, LABELS), dlr(z, LABELS), rtol=1e-6, atol=1e-6)
    moved = targeted_dlr(scale * z + shift, LABELS, TARGETS)
    torch.testing.assert_close(moved, targeted_dlr(z, LABELS, TARGETS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", ["margin", "dlr", "margin-targeted"])
def test_signs_say_who_is_misclassified(loss):
    z = logits(1) + 2 * torch.eye(5)[LABELS]
    targets = z.scatter(1, LABELS[:, None], -torch.inf).argmax(1) if "targeted" in loss else None
    value = objective_of(loss, targets)(z, LABELS)
    assert torch.equal(value > 0, z.argmax(1) != LABELS)
    assert 0 < (value > 0).sum() < 8


def test_too_few_classes_are_refused():
    z = torch.zeros(2, 3)
    y = torch.tensor([0, 1])
    assert dlr(z, y).shape == (2,)
    with pytest.raises(AmalgamError, match="3 classes, the model has 2"):
        dlr(z[:, :2], y)
    with pytest.raises(AmalgamError, match="4 classes, the model has 3"):
        targeted_dlr(z, y, 1 - y)


def test_names_and_targets_are_checked():
    with pytest.raises(ValueError, match="unknown loss 'cw'; there are ce, margin, dlr"):
        objective_of("cw")
    with pytest.raises(ValueError, match="needs targets"):
        objective_of("dlr-targeted")
    with pytest.raises(ValueError, match="takes no targets"):
        objective_of("dlr", TARGETS)


def test_gradients_are_those_of_the_images_alone():
    model = torch.nn.Linear(4, 5)
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    value, gradient, wrong = evaluate_objective(model, x, LABELS, Objective(cross_entropy))
    p = model(x).softmax(1)
    expected = (p - torch.eye(5)[LABELS]) @ model.weight
    torch.testing.assert_close(gradient, expected.detach())
    torch.testing.assert_close(value, -p.gather(1, LABELS[:, None]).squeeze(1).log().detach())
    assert torch.equal(wrong, p.argmax(1) != LABELS)
    assert model.weight.grad is None
