"""The inner maximisation of adversarial training."""

import torch
from torch import nn

from ops.attack.pgd import input_gradient
from ops.attack.projections import ascent_direction, project
from ops.attack.threat import Threat
from ops.train.batchnorm import frozen_statistics
from ops.train.losses import soft_cross_entropy
from ops.train.recipe import InnerAttack


def inner_attack(
    model: nn.Module,
    x: torch.Tensor,
    targets: torch.Tensor,
    threat: Threat,
    config: InnerAttack,
    rng: torch.Generator,
) -> torch.Tensor:
    """Return adversarial images (B, C, H, W): steepest ascent of CE(f(x + d), targets) from a random start.

    `targets` (B, K) are probabilities that stay fixed: the clean prediction for TRADES (the cross-entropy is then the KL
    divergence up to a constant), the labels for PGD adversarial training. The model stays in training mode: batch
    statistics are used and the running statistics are not touched. Steps follow the sign (L-inf) or the normalised
    gradient (L2); the papers' reference takes Adam steps, which start as sign steps too.
    """
    noise = torch.rand(x.shape, generator=rng).to(x) * 2 - 1
    if threat.norm == "l2":
        noise = noise / noise.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    adversarial = project(x + threat.eps * noise, x, threat)
    for _ in range(config.steps):
        adversarial = adversarial.detach().requires_grad_(True)
        with frozen_statistics(model):
            value = soft_cross_entropy(model(adversarial).float(), targets)
        direction = ascent_direction(input_gradient(value, adversarial), threat)
        adversarial = project(adversarial.detach() + config.step_size * threat.eps * direction, x, threat)
    return adversarial.detach()
