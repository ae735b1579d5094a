"""Solvers of the probability-flow ODE from noise to data, the same for every objective.

They see a model only through the data D(x, level) that it denoises. In y = x / c and s = sigma / c (`Objective.path`) the
ODE is dy/ds = (y - D) / s. Euler's method there is DDIM for a DDPM (Song et al. 2021), the plain Euler step for
rectified flow and the sampler of Karras et al. 2022 (algorithm 1 without churn) for EDM; Heun's is its second order.
DPM-Solver++ (2M) extrapolates D in log(alpha / sigma) (Lu et al. 2022, algorithm 2).
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch

from ops.generate.objectives import Objective

Denoiser = Callable[[torch.Tensor, float], torch.Tensor]
"""D(x, level) with x (B, ...) and one level for the whole batch."""


@torch.no_grad()
def solve(denoiser: Denoiser, objective: Objective, noise: torch.Tensor, steps: int, solver: str) -> torch.Tensor:
    """Return the data (B, ...) that `noise` (B, ...), of deviation 1, flows to."""
    grid = objective.grid(steps)
    x = noise * _scales(objective, grid[0])[1]
    if solver == "dpm++":
        return _multistep(denoiser, objective, x, grid)
    for now, after in pairwise(grid):
        denoised = denoiser(x, now)
        ahead = _euler(objective, x, denoised, now, after)
        if solver == "heun" and _curved(objective, now, after):
            ahead = _heun(objective, x, denoised, ahead, denoiser(ahead, after), now, after)
        x = ahead
    return x


def _scales(objective: Objective, level: float) -> tuple[float, float]:
    alpha, sigma = objective.scales(torch.tensor([level], dtype=torch.float32))
    return float(alpha), float(sigma)


def _euler(objective: Objective, x: torch.Tensor, denoised: torch.Tensor, now: float, after: float) -> torch.Tensor:
    """Return alpha' D + sigma' e with the noise e = (x - alpha D) / sigma: exact where D is constant."""
    (alpha, sigma), (alpha_, sigma_) = _scales(objective, now), _scales(objective, after)
    return alpha_ * denoised + sigma_ / sigma * (x - alpha * denoised)


def _curved(objective: Objective, now: float, after: float) -> bool:
    """Say whether a step has two ends with a slope: not from pure noise, where there is no y, nor to data."""
    return math.isfinite(objective.path(now)[1]) and objective.path(after)[1] > 0


def _heun(
    objective: Objective,
    x: torch.Tensor,
    denoised: torch.Tensor,
    ahead: torch.Tensor,
    denoised_ahead: torch.Tensor,
    now: float,
    after: float,
) -> torch.Tensor:
    """Return the step with the mean of the slopes at both ends."""
    (c, s), (c_, s_) = objective.path(now), objective.path(after)
    slope, slope_ = (x / c - denoised) / s, (ahead / c_ - denoised_ahead) / s_
    return c_ * (x / c + (s_ - s) * (slope + slope_) / 2)


def _multistep(denoiser: Denoiser, objective: Objective, x: torch.Tensor, grid: list[float]) -> torch.Tensor:
    """Return the end of DPM-Solver++ (2M); its first step, and one that ends in data, are of first order."""
    before: torch.Tensor | None = None
    width = math.inf
    for now, after in pairwise(grid):
        (alpha, sigma), (alpha_, sigma_) = _scales(objective, now), _scales(objective, after)
        h = _log_snr(alpha_, sigma_) - _log_snr(alpha, sigma)
        denoised = denoiser(x, now)
        ahead = denoised
        if before is not None and math.isfinite(h) and math.isfinite(width):
            ahead = denoised + h / (2 * width) * (denoised - before)  # 1 / (2 r) with r = width / h
        x = sigma_ / sigma * x - alpha_ * math.expm1(-h) * ahead
        before, width = denoised, h
    return x


def _log_snr(alpha: float, sigma: float) -> float:
    """Return log(alpha / sigma), with infinite ends."""
    if not sigma:
        return math.inf
    return math.log(alpha / sigma) if alpha else -math.inf
