"""Auto-PGD against a twin that goes one example at a time, and against the public code: the same start, the same path."""

from itertools import product

import numpy as np
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn

from ops.attack.apgd import dense_apgd
from ops.attack.objectives import evaluate_objective, objective_of
from ops.attack.projections import random_start
from ops.attack.threat import Threat

THREATS = [Threat(norm="linf", eps=0.03), Threat(norm="l2", eps=0.4)]
NAMES = {"linf": "Linf", "l2": "L2"}
IMAGES, CLASSES, SEEDS = 6, 5, 3
STEPS = [20, 50, 100]


@pytest.fixture
def double():
    """Search in float64: of two paths that part by a rounding error of float32, either is right."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(usual)


pytestmark = pytest.mark.usefixtures("double")


class Waves(nn.Module):
    """Sines of the pixels, then tanh, then logits within -+1: a step of eps crosses several crests.

    Class 0 is ahead of the others by `lead`; by more than 2, no image falls.
    """

    def __init__(self, seed: int, lead: float) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.first = 0.75 * torch.randn(48, 24, generator=rng)
        self.second = torch.randn(24, 16, generator=rng) / 2
        last = torch.randn(16, CLASSES, generator=rng)
        self.last = last / last.abs().sum(dim=0)
        self.ahead = torch.tensor([lead] + [0.0] * (CLASSES - 1))

    def forward(self, x):
        return ((x - 0.5).flatten(1) @ self.first).sin().matmul(self.second).tanh() @ self.last + self.ahead


def pictures(seed: int, threat: Threat) -> torch.Tensor:
    """Return images: for L-inf up to the border of the box, for L2 inside, where both codes project alike."""
    x = torch.rand(IMAGES, 3, 4, 4, generator=torch.Generator().manual_seed(100 + seed))
    return x if threat.norm == "linf" else 0.35 + 0.3 * x


def case(seed: int, threat: Threat, loss: str, lead: float = 3):
    """Return model, images, labels, start, and targets or None."""
    model, x = Waves(seed, lead), pictures(seed, threat)
    y = torch.zeros(IMAGES, dtype=torch.int64) if lead else model(x).argmax(dim=1)
    targets = (y + 1 + torch.arange(IMAGES) % (CLASSES - 1)) % CLASSES
    return model, x, y, random_start(x, threat, torch.arange(IMAGES)), targets if loss.endswith("targeted") else None


def nearest(point: np.ndarray, centre: np.ndarray, threat: Threat) -> np.ndarray:
    """Return the projection on the ball, then on the box."""
    away = point - centre
    if threat.norm == "linf":
        away = np.clip(away, -threat.eps, threat.eps)
    elif np.linalg.norm(away) > threat.eps:
        away = away / np.linalg.norm(away) * threat.eps
    return np.clip(centre + away, 0, 1)


def algorithm_1(look, centre, start, threat, steps, before=None):
    """Return best point, best value, the first misclassified point or None, and what each checkpoint found.

    Algorithm 1 of Croce and Hein 2020 for one image; `look` gives value, gradient and whether a point is misclassified.
    The first step counts as a rise if it ends above f(x_0), the start; or above `before`, if that is given.
    """
    eta, x, reasons = 2 * threat.eps, [start], []
    value, slope, wrong = look(start)
    f, best, best_slope, f_max = [value if before is None else before], start, slope, value
    if wrong:
        return best, f_max, start, reasons
    period = max(int(0.22 * steps), 1)
    checked, halved_before, f_max_before = 0, True, value
    for k in range(1, steps + 1):
        ahead = np.sign(slope) if threat.norm == "linf" else slope / np.linalg.norm(slope)
        new = nearest(x[-1] + eta * ahead, centre, threat)
        if k > 1:
            new = nearest(x[-1] + 0.75 * (new - x[-1]) + 0.25 * (x[-1] - x[-2]), centre, threat)
        x.append(new)
        value, slope, wrong = look(new)
        f.append(value)
        if wrong:
            return best, f_max, new, reasons
        if value > f_max:
            best, best_slope, f_max = new, slope, value
        if k - checked == period:
            rises = sum(f[i + 1] > f[i] for i in range(checked, k))
            condition_1 = rises <= 0.75 * period
            condition_2 = not halved_before and f_max_before == f_max
            reasons.append((condition_1, condition_2))
            halved_before, f_max_before = condition_1 or condition_2, f_max
            if halved_before:
                eta, slope = eta / 2, best_slope
                x[-1] = best
            checked, period = k, max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return best, f_max, None, reasons


def twin(model, images, labels, start, targets, threat, loss, steps, before=None):
    """Return points (N, ...), values (N,), which fell (N,) bool, and what checkpoints found, of all images."""
    points, values, fell, reasons = [], [], [], []
    for n in range(len(images)):
        objective = objective_of(loss, None if targets is None else targets[n : n + 1])

        def look(point, n=n, objective=objective):
            value, slope, wrong = evaluate_objective(model, torch.from_numpy(point)[None], labels[n : n + 1], objective)
            return float(value), slope[0].numpy(), bool(wrong)

        best, value, wrong, why = algorithm_1(look, images[n].numpy(), start[n].numpy(), threat, steps, before)
        points.append(torch.from_numpy(best if wrong is None else wrong))
        values.append(value)
        fell.append(wrong is not None)
        reasons += why
    return torch.stack(points), torch.tensor(values), torch.tensor(fell), reasons


def public(model, images, labels, start, targets, threat, loss, steps):
    """Return best points and values of the public code."""
    options = {"eps": threat.eps, "norm": NAMES[threat.norm], "n_iter": steps, "device": "cpu"}
    code = APGDAttack_targeted(model, **options) if targets is not None else APGDAttack(model, loss=loss, **options)
    code.init_hyperparam(images)
    code.y_target = targets
    best, _, value, _ = code.attack_single_run(images, labels, x_init=start)
    return best, value


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_search_is_that_of_algorithm_1(threat):
    """The images do not fall, so that all steps count."""
    seen = set()
    for loss, steps, seed in product(("ce", "dlr-targeted"), STEPS, range(SEEDS)):
        model, x, y, start, targets = case(seed, threat, loss)
        points, values, fell, reasons = twin(model, x, y, start, targets, threat, loss, steps)
        found = dense_apgd(model, x, y, threat, objective_of(loss, targets), steps, start)
        assert not fell.any()
        assert not found.fooled.any()
        torch.testing.assert_close(found.value, values, rtol=0, atol=1e-9, msg=f"{loss}, {steps} steps, seed {seed}")
        torch.testing.assert_close(found.images, points, rtol=0, atol=1e-7, msg=f"{loss}, {steps} steps, seed {seed}")
        seen |= set(reasons)
    assert seen == set(product((True, False), repeat=2)), "all that a checkpoint may find must have happened"


@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=0.01), Threat(norm="l2", eps=0.07)], ids=str)
def test_the_first_misclassified_point_ends_an_images_search_alone(threat):
    falls = 0
    for loss, seed in product(("ce", "dlr-targeted"), range(SEEDS)):
        model, x, y, start, targets = case(seed, threat, loss, lead=0)
        points, values, fell, _ = twin(model, x, y, start, targets, threat, loss, 20)
        found = dense_apgd(model, x, y, threat, objective_of(loss, targets), 20, start)
        assert torch.equal(found.fooled, fell)
        torch.testing.assert_close(found.images, points, rtol=0, atol=1e-7)
        torch.testing.assert_close(found.value[~fell], values[~fell], rtol=0, atol=1e-9)
        falls += int(fell.sum())
    assert IMAGES < falls < 2 * SEEDS * IMAGES - IMAGES


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_public_code_counts_the_first_step_against_nought(threat):
    """In all else it is algorithm 1: where a step above f(x_0) is one above 0, the search is the public code's.

    The public code keeps the values of the steps without that of the start; the entry before the first is still 0. So the
    first step always counts for the cross-entropy, and never for a loss that is negative until an image falls.
    """
    alike = 0
    for loss, steps, seed in product(("ce", "dlr-targeted"), STEPS, range(SEEDS)):
        model, x, y, start, targets = case(seed, threat, loss)
        best, value = public(model, x, y, start, targets, threat, loss, steps)
        points, values, _, _ = twin(model, x, y, start, targets, threat, loss, steps, before=0.0)
        torch.testing.assert_close(values, value, rtol=0, atol=1e-8)
        torch.testing.assert_close(points, best, rtol=0, atol=1e-6)

        objective = objective_of(loss, targets)
        once = dense_apgd(model, x, y, threat, objective, 1, start)
        rose = (once.images != start).flatten(1).any(dim=1)
        same = rose if loss == "ce" else ~rose
        found = dense_apgd(model, x, y, threat, objective, steps, start)
        torch.testing.assert_close(found.value[same], value[same], rtol=0, atol=1e-8)
        torch.testing.assert_close(found.images[same], best[same], rtol=0, atol=1e-6)
        alike += int(same.sum())
    assert alike > 2 * len(STEPS) * SEEDS * IMAGES // 4
