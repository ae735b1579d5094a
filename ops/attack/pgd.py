"""Projected gradient descent (Madry et al. 2018) with steepest or Adam steps and restarts, for evaluation."""

import torch
from torch import nn

from ops.attack.ascent import AdamAscent, SteepestAscent, evaluation_rates
from ops.attack.attacks import Rule
from ops.attack.attempts import Attempts, Found, attempt_in_turn, ended_rows, restart_seeds
from ops.attack.objectives import Objective, objective_of
from ops.attack.projections import Start, random_start
from ops.attack.threat import Threat
from ops.models.frozen import frozen_parameters

FIRST_SHARE = 0.2
"""L1: share of the pixel values that the first steps move, as in L1-APGD."""


def pgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float | None = None,
    loss: str = "ce",
    example_seeds: torch.Tensor,
    rule: Rule = "steepest",
    restarts: int = 1,
    start: Start = "uniform",
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    Starts at a random point of the ball and takes `steps` projected steps: `steepest`, of `step_size` pixels in the
    threat's norm (default: see `default_size`), or `adam`, at the rates of Rebuffi et al.'s PGD-40 (not for L1). `loss` is
    ce, margin or dlr. Returns for each example the first iterate that is misclassified, else the one with the largest
    objective; only examples that still stand get another of the `restarts`, several at once where so many rows fit into a
    `batch` (if not given: N). The result of an example depends on its own seed in `example_seeds` (N,) int64, not on the
    batch it is in. What is spent on it (see `Found`) is added to `passes` (N,) int64, if that is given.
    """
    objective = objective_of(loss)

    def attempt(rows: Attempts) -> Found:
        x, y = images[rows.places], labels[rows.places]
        begin = random_start(x, threat, restart_seeds(example_seeds, rows.places, rows.numbers), start)
        return climb(model, begin, x, y, objective, step_rule(rule, threat, x, steps, step_size), steps, rows)

    found = Found.nothing(images)
    attempt_in_turn(found, restarts, batch or len(images), attempt)
    if passes is not None:
        passes += found.passes
    return found.images


def climb(
    model: nn.Module,
    start: torch.Tensor,
    centre: torch.Tensor,
    labels: torch.Tensor,
    objective: Objective,
    rule: SteepestAscent | AdamAscent,
    steps: int,
    rows: Attempts | None = None,
) -> Found:
    """Return what `steps` steps of `rule` on `objective` find from `start` (N, ...) in the ball around `centre`.

    An example that is misclassified is done, and so are later attempts on it among the `rows` (if not given: each is an
    example of its own); the steps after that are those of the others alone. No gradient of a
    parameter is computed. The last iterate needs no gradient at all.
    """
    found = Found.nothing(centre)
    x, places = start, torch.arange(len(centre), device=centre.device)
    with frozen_parameters(model):
        for step in range(steps + 1):
            x = x.detach().requires_grad_(step < steps)
            with torch.set_grad_enabled(step < steps):
                logits = model(x)
                value = objective(logits, labels)
            wrong = logits.detach().argmax(dim=1) != labels
            found.improve(places, Found(x.detach(), value.detach(), wrong, 1 + (~wrong & (step < steps)).long()))
            ended = ended_rows(rows, places, wrong)
            if step == steps or ended.all():
                break
            (gradient,) = torch.autograd.grad(value.sum(), x)
            x = x.detach()
            if ended.any():
                kept = ~ended
                places, x, gradient, centre, labels = (part[kept] for part in (places, x, gradient, centre, labels))
                objective = objective.only(kept)
                rule.keep(kept)
            x = rule(step, x, gradient, centre)
    return found


def step_rule(
    rule: Rule, threat: Threat, images: torch.Tensor, steps: int, step_size: float | None = None
) -> SteepestAscent | AdamAscent:
    """Return a new step rule for one evaluation attack of `steps` steps on `images`.

    Raises ValueError for a step size for Adam, whose rates are fixed, and AmalgamError for Adam in L1.
    """
    if rule == "adam":
        if step_size is not None:
            raise ValueError("step_size belongs to the rule steepest; Adam's rates follow from the number of steps")
        return AdamAscent(threat, evaluation_rates(steps))
    size = step_size if step_size is not None else default_size(threat, steps)
    shares = sparse_shares(steps, threat.eps, images[0].numel()) if threat.norm == "l1" and len(images) else None
    return SteepestAscent(threat, [size] * steps, shares)


def default_size(threat: Threat, steps: int) -> float:
    """Return the length of a steepest step: 2.5 eps / steps, but at least eps / 4 in L1.

    In L1 the projection takes from every moved pixel what the step gives to a few: short steps never get sparse.
    """
    return max(2.5 * threat.eps / steps, threat.eps / 4 if threat.norm == "l1" else 0) if steps else threat.eps


def sparse_shares(steps: int, eps: float, count: int) -> list[float]:
    """Return the share of `count` pixel values that each of `steps` L1 steps moves in an evaluation.

    It falls geometrically from 0.2 through the first half and stays at eps entries (at least one) in the second: pixels
    differ by 1 at most, so no point on the sphere has fewer. With a share that never falls, increments stay spread over
    that many pixels, and even a linear model does not meet its worst case.
    """
    last = min(max(eps, 1), count) / count
    first = max(FIRST_SHARE, last)
    half = max(steps // 2, 1)
    return [first * (last / first) ** min(step / half, 1) for step in range(steps)]
