"""MultiTargeted (Gowal et al. 2019): one attack towards each wrong class, rather than one away from the right class."""

import torch
from torch import nn

from ops.attack.attacks import Rule
from ops.attack.objectives import objective_of, rank_wrong_classes
from ops.attack.pgd import Found, climb, restart_seeds, step_rule
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
    passes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return adversarial images (N, C, H, W) in the ball around `images` (in [0, 1]) and in [0, 1].

    For each of the `targets` wrong classes t that the model finds most likely on the clean image (default, and at most:
    all), maximises z_t - z_y by PGD from a random point of the ball, `restarts` times, for examples that still stand.
    Steps, step size, seeds, rules and passes are those of `pgd`. An example that is never misclassified comes back where the
    margin of any target was largest.
    """
    with torch.no_grad():
        logits = model(images)
    ranking = rank_wrong_classes(logits, labels)
    classes = logits.shape[1]
    count = classes - 1 if targets is None else min(targets, classes - 1)
    found = Found(
        images.clone(),
        torch.full((len(images),), -torch.inf, device=images.device),
        logits.argmax(dim=1) != labels,
        torch.ones_like(labels),
    )
    for restart in range(restarts):
        for rank in range(count):
            places = found.standing()
            if not len(places):
                break
            x, y = images[places], labels[places]
            begin = random_start(x, threat, restart_seeds(example_seeds, places, restart * classes + rank))
            objective = objective_of("margin-targeted", ranking[places, rank])
            rule_now = step_rule(rule, threat, x, steps, step_size)
            found.improve(places, climb(model, begin, x, y, objective, rule_now, steps))
    if passes is not None:
        passes += found.passes
    return found.images
