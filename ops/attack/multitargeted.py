"""MultiTargeted (Gowal et al. 2019): one attack towards each wrong class, rather than one away from the right class."""

from dataclasses import replace

import torch
from torch import nn

from ops.attack.attacks import Rule
from ops.attack.attempts import Attempts, Found, attempt_in_turn, restart_seeds
from ops.attack.objectives import objective_of, rank_wrong_classes
from ops.attack.pgd import climb, step_rule
from ops.attack.projections import random_start
from ops.attack.threat import Threat


def multitargeted(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float | None = None,
    example_seeds: torch.Tensor,
    targets: int | None = None,
    restarts: int = 1,
    rule: Rule = "steepest",
    batch: int | None = None,
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    For each of the `targets` wrong classes t that the model finds most likely on the clean image (default, and at most:
    all), maximises z_t - z_y by PGD from a random point of the ball, `restarts` times, for examples that still stand.
    Steps, step size, seeds, rules, batch and passes are those of `pgd`. An example that is never misclassified comes back
    where the margin of any target was largest.
    """
    with torch.no_grad():
        logits = model(images)
    ranking = rank_wrong_classes(logits, labels)
    classes = logits.shape[1]
    count = classes - 1 if targets is None else min(targets, classes - 1)

    def attempt(rows: Attempts) -> Found:
        x, restart, rank = images[rows.places], rows.numbers // count, rows.numbers % count
        begin = random_start(x, threat, restart_seeds(example_seeds, rows.places, restart * classes + rank))
        objective = objective_of("margin-targeted", ranking[rows.places, rank])
        rule_now = step_rule(rule, threat, x, steps, step_size)
        return climb(model, begin, x, labels[rows.places], objective, rule_now, steps, rows)

    found = replace(Found.nothing(images), fooled=logits.argmax(dim=1) != labels, passes=torch.ones_like(labels))
    attempt_in_turn(found, restarts * count, batch or len(images), attempt)
    if passes is not None:
        passes += found.passes
    return found.images
