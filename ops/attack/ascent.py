"""Step rules: from an iterate and the gradient there to the next iterate, projected.

Training and evaluation share them. A rule is called as `rule(step, x, gradient, centre)`, with `x`, `gradient` and
`centre` (N, ...), centre in [0, 1], and `step` counted from 0; sizes and rates are in units of pixels in [0, 1].
"""

from collections.abc import Sequence

import torch

from ops.attack.projections import L1_SHARE, ascent_direction, project
from ops.attack.threat import Threat
from ops.errors import AmalgamError

TRAINING_RATES = (0.1, 0.01)
"""Adam's rates in the first and second half of training's steps (Rebuffi et al. 2021, reference implementation)."""
EVALUATION_RATES = (0.1, 0.01, 0.0001)
"""Adam's rates in the first half, third and last quarter of the evaluation's steps (the same, PGD-40)."""


def training_rates(steps: int) -> list[float]:
    """Return Adam's rates in training: 5 x 0.1 and 5 x 0.01 for the reference's 10 steps; an odd step is a short one."""
    first = steps // 2
    return [TRAINING_RATES[0]] * first + [TRAINING_RATES[1]] * (steps - first)


def evaluation_rates(steps: int) -> list[float]:
    """Return Adam's rates in evaluation: 20 x 0.1, 10 x 0.01 and 10 x 0.0001 for the reference's 40 steps."""
    first, second = steps // 2, steps * 3 // 4
    long, short, shortest = EVALUATION_RATES
    return [long] * first + [short] * (second - first) + [shortest] * (steps - second)


class SteepestAscent:
    """Steps along the direction of steepest ascent: signs (L-inf), the normalised gradient (L2), sparse signs (L1).

    `sizes[step]` is the length of a step in the threat's norm. `shares[step]` is the share of the pixel values that an L1
    step moves (default 0.05 throughout, as in training); the other norms do not read it.
    """

    def __init__(self, threat: Threat, sizes: Sequence[float], shares: Sequence[float] | None = None) -> None:
        self.threat = threat
        self.sizes = sizes
        self.shares = shares if shares is not None else [L1_SHARE] * len(sizes)

    def keep(self, kept: torch.Tensor) -> None:
        """Go on with the examples in the mask `kept` (N,) bool; nothing is remembered of any."""

    def __call__(self, step: int, x: torch.Tensor, gradient: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
        """Return the next iterate (N, ...)."""
        direction = ascent_direction(gradient, self.threat, x, self.shares[step])
        return project(x + self.sizes[step] * direction, centre, self.threat)


class AdamAscent:
    """Adam (Kingma and Ba 2015) on the perturbation, projected after each step; one instance serves one attack.

    As in the reference implementation of Rebuffi et al. 2021, moments are those of the raw gradient and projection does
    not touch them. Adam's first step moves every pixel by the full rate, whatever the norm: for L-inf it is close to sign
    steps; for L2 the direction is not the steepest, and a linear model with weights w loses eps ||w||_1 / sqrt(n) rather
    than eps ||w||_2. For L1 such dense steps project to next to nothing, so L1 is refused.

    Raises AmalgamError for L1 threats.
    """

    def __init__(
        self,
        threat: Threat,
        rates: Sequence[float],
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-9,
    ) -> None:
        if threat.norm == "l1":
            raise AmalgamError("Adam moves every pixel alike, which is no attack in L1", "set the rule to steepest")
        self.threat = threat
        self.rates = rates
        self.betas = betas
        self.epsilon = epsilon
        self.updates = 0
        self.first = self.second = torch.zeros(())

    def keep(self, kept: torch.Tensor) -> None:
        """Go on with the examples in the mask `kept` (N,) bool."""
        if self.updates:
            self.first, self.second = self.first[kept], self.second[kept]

    def __call__(self, step: int, x: torch.Tensor, gradient: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
        """Return the next iterate (N, ...)."""
        b1, b2 = self.betas
        if self.updates == 0:
            self.first, self.second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.updates += 1
        self.first.lerp_(gradient, 1 - b1)
        self.second.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        scale = (self.second / (1 - b2**self.updates)).sqrt_().add_(self.epsilon)
        moved = torch.addcdiv(x, self.first, scale, value=self.rates[step] / (1 - b1**self.updates))
        return project(moved, centre, self.threat)
