"""L1-APGD through three radii against a twin that goes one example at a time, and against the public code."""

from itertools import product

import numpy as np
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from ops.attack.apgd_l1 import shrinking_apgd
from ops.attack.objectives import evaluate_objective, objective_of
from ops.attack.projections import project, random_start
from ops.attack.threat import Threat
from tests.ops.attack.test_apgd_algorithm import CLASSES, Waves, double  # noqa: F401 (a fixture)

THREAT = Threat(norm="l1", eps=0.5)
WIDEST = Threat(norm="l1", eps=1.5)
IMAGES, SEEDS = 4, 2
BUDGETS = [
    ("ce", 20),
    ("dlr-targeted", 20),
    ("dlr-targeted", 50),
    ("ce", 100),
    ("dlr-targeted", 100),
    ("dlr-targeted", 250),
]


def case(seed: int, loss: str, images: int = IMAGES, lead: float = 3):
    """Return model, images with black and white pixels, labels, a start in the ball of 3 eps, and targets or None."""
    model = Waves(seed, lead)
    x = torch.rand(images, 3, 4, 4, generator=torch.Generator().manual_seed(100 + seed)) * 1.4 - 0.2
    x = x.clamp(0, 1)
    y = torch.zeros(images, dtype=torch.int64) if lead else model(x).argmax(dim=1)
    targets = (y + 1 + torch.arange(images) % (CLASSES - 1)) % CLASSES
    start = random_start(x, WIDEST, torch.arange(images))
    return model, x, y, start, targets if loss.endswith("targeted") else None


def nearest(point, centre, eps):
    """Return the projection on ball and box: soft thresholding, clipped, with the threshold found by bisection."""

    def at(tau):
        away = point - centre
        return np.clip(np.sign(away) * np.maximum(abs(away) - tau, 0), -centre, 1 - centre)

    low, high = 0.0, abs(point - centre).max()
    if abs(at(0.0)).sum() <= eps:
        return centre + at(0.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if abs(at(middle)).sum() > eps else (low, middle)
    return centre + at(high)


def moved(point, centre):
    return int((abs(point - centre) > 1e-6).sum())


def one_radius(look, centre, start, eps, steps, stop):
    """Return best point, best value and the first misclassified point or None of one image's search at one radius."""
    x, eta, period = start, eps, max(int(0.04 * steps), 1)
    value, slope, wrong = look(x)
    best, best_slope, best_value, moved_before = x, slope, value, moved(x, centre)
    entries = max(moved_before * 2 // 3, 1)
    for k in range(1, steps + 1):
        if wrong and stop:
            return best, best_value, x
        blocked = ((slope > 0) & (x > 1 - 1e-6)) | ((slope < 0) & (x < 1e-6))
        slope = np.where(blocked, 0, slope)
        sparse = np.zeros_like(slope).ravel()
        largest = np.argsort(-abs(slope).ravel())[:entries]
        sparse[largest] = np.sign(slope.ravel()[largest])
        x = nearest(x + eta * sparse.reshape(slope.shape) / abs(sparse).sum(), centre, eps)
        value, slope, wrong = look(x)
        if value > best_value:
            best, best_slope, best_value = x, slope, value
        if k % period == 0 and not (wrong and stop):
            now = moved(best, centre)
            entries = max(now * 2 // 3, 1)
            if now < 0.95 * moved_before:
                eta, x, slope = eps, best, best_slope
            else:
                eta = max(eta / 1.5, eps / 10)
            moved_before = now
    return best, best_value, x if wrong and stop else None


def three_radii(look, centre, start, eps, steps):
    """Return what `one_radius` does at eps, after 30 % of the steps at 3 eps and 30 % at 2 eps (AutoAttack, L1)."""
    wide = int(np.ceil(0.3 * steps))
    for multiple in (3, 2):
        start = nearest(start, centre, multiple * eps)
        start, _, _ = one_radius(look, centre, start, multiple * eps, wide, stop=False)
    return one_radius(look, centre, nearest(start, centre, eps), eps, steps - 2 * wide, stop=True)


def twin(model, images, labels, start, targets, loss, steps):
    """Return points (N, ...), values (N,) and which fell (N,) bool."""
    points, values, fell = [], [], []
    for n in range(len(images)):
        objective = objective_of(loss, None if targets is None else targets[n : n + 1])

        def look(point, n=n, objective=objective):
            value, slope, wrong = evaluate_objective(model, torch.from_numpy(point)[None], labels[n : n + 1], objective)
            return float(value), slope[0].numpy(), bool(wrong)

        best, value, wrong = three_radii(look, images[n].numpy(), start[n].numpy(), THREAT.eps, steps)
        points.append(torch.from_numpy(best if wrong is None else wrong))
        values.append(value)
        fell.append(wrong is not None)
    return torch.stack(points), torch.tensor(values), torch.tensor(fell)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("lead", [3, 0], ids=["standing", "falling"])
def test_the_search_is_that_of_l1_apgd_at_three_radii(lead):
    """Up to 100 steps every step is reviewed, and there is nothing to return from; so 250 steps as well."""
    falls = 0
    for (loss, steps), seed in product(BUDGETS, range(SEEDS)):
        model, x, y, start, targets = case(seed, loss, lead=lead)
        points, values, fell = twin(model, x, y, start, targets, loss, steps)
        found = shrinking_apgd(model, x, y, THREAT, objective_of(loss, targets), steps, start)
        assert torch.equal(found.fooled, fell)
        torch.testing.assert_close(found.value[~fell], values[~fell], rtol=0, atol=1e-8)
        torch.testing.assert_close(found.images, points, rtol=0, atol=1e-6)
        falls += int(fell.sum())
    assert falls == 0 if lead else falls > 10 * SEEDS


def public(model, images, labels, targets, threat, loss, steps, seed):
    """Return the best values (N,) of the public code's search through the radii, and where it starts."""
    options = {"eps": threat.eps, "norm": "L1", "n_iter": steps, "device": "cpu"}
    code = APGDAttack_targeted(model, **options) if targets is not None else APGDAttack(model, loss=loss, **options)
    code.init_hyperparam(images)
    code.y_target = targets
    torch.manual_seed(seed)
    noise = torch.randn_like(images)
    torch.manual_seed(seed)  # so that the public code draws the same
    wide = int(np.ceil(0.3 * steps))
    radii = [3 * threat.eps, 2 * threat.eps, threat.eps]
    _, _, values, _ = code.decr_eps_pgd(images, labels, radii, [wide, wide, steps - 2 * wide])
    return values, project(images + noise, images, threat.model_copy(update={"eps": radii[0]}))


@pytest.mark.parametrize(("eps", "loss", "steps"), [(0.5, "ce", 50), (0.5, "dlr-targeted", 50), (2, "ce", 20)])
def test_the_public_code_finds_as_much_from_the_same_start(eps, loss, steps):
    """Not step by step: it counts dust as moved pixels and rounds their number up, which ours does not.

    In the small ball most searches end in the same place. In the large one few do, but there the radii show: a search at
    eps alone ends 0.009 higher.
    """
    ours, theirs, threat = [], [], Threat(norm="l1", eps=eps)
    for seed in range(5):
        with torch.random.fork_rng():
            model, x, y, _, targets = case(seed, loss, images=40)
            values, start = public(model, x, y, targets, threat, loss, steps, seed)
        theirs.append(values)
        ours.append(shrinking_apgd(model, x, y, threat, objective_of(loss, targets), steps, start).value)
    higher = torch.cat(ours) - torch.cat(theirs)
    assert abs(float(higher.mean())) < (0.005 if eps == 2 else 0.003)
    if eps < 1:
        assert (higher.abs() < 1e-3).float().mean() > 0.5
        assert (higher > -1e-3).float().mean() > 0.8
