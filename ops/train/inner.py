"""The inner maximisation of adversarial training."""

import torch
from torch import nn

from ops.attack.ascent import AdamAscent, SteepestAscent, training_rates
from ops.attack.projections import batch_start
from ops.attack.threat import Threat
from ops.models.frozen import frozen_parameters
from ops.train.batchnorm import frozen_statistics
from ops.train.losses import soft_cross_entropy
from ops.train.recipe import InnerAttack


def starting_point(x: torch.Tensor, threat: Threat, config: InnerAttack, rng: torch.Generator) -> torch.Tensor:
    """Return where the attack on images (B, C, H, W) starts, in [0, 1]; the draws are those of the whole batch."""
    wide = threat if config.noise == 1 else threat.model_copy(update={"eps": threat.eps * config.noise})
    return batch_start(x, wide, config.start, rng)


def inner_attack(
    model: nn.Module,
    x: torch.Tensor,
    start: torch.Tensor,
    targets: torch.Tensor,
    threat: Threat,
    config: InnerAttack,
    scale: float = 1.0,
) -> torch.Tensor:
    """Return adversarial images (B, C, H, W): ascent of CE(f(x + d), targets) from `start`.

    `targets` (B, K) are probabilities that stay fixed: the clean prediction for TRADES (the cross-entropy is then the KL
    divergence up to a constant), the labels for PGD adversarial training and wherever labels are mixed. The model stays
    in training mode: batch statistics are used and the running statistics are not touched. No gradient of a parameter is
    computed. `scale` multiplies the objective, so that half precision does not round its gradient to 0.
    """
    ascent = _ascent(threat, config)
    adversarial = start
    with frozen_statistics(model), frozen_parameters(model):
        for step in range(config.steps):
            adversarial = adversarial.detach().requires_grad_(True)
            value = scale * soft_cross_entropy(model(adversarial).float(), targets).sum()
            (gradient,) = torch.autograd.grad(value, adversarial)
            adversarial = ascent(step, adversarial.detach(), gradient, x)
    return adversarial.detach()


def _ascent(threat: Threat, config: InnerAttack) -> SteepestAscent | AdamAscent:
    """Return the step rule; without projection, the ball is replaced by one that no step can leave."""
    reach = threat
    if not config.project:
        reach = threat.model_copy(update={"eps": threat.eps * (config.noise + config.steps * config.step_size)})
    if config.rule == "adam":
        return AdamAscent(reach, training_rates(config.steps))
    return SteepestAscent(reach, [config.step_size * threat.eps] * config.steps)
