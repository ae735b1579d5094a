"""Rectified flow: straight paths from noise to data, and solvers along them (Liu et al. 2023; Esser et al. 2024)."""

from collections.abc import Callable
from itertools import pairwise

import torch

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A field v(x, t) with x (B, ...) and t (B,) in [0, 1]; t = 0 is data, t = 1 is noise."""


def interpolate(data: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x_t = (1 - t) data + t noise and the velocity dx/dt = noise - data; `t` is (B,)."""
    weight = t.view(-1, *[1] * (data.dim() - 1))
    return (1 - weight) * data + weight * noise, noise - data


def logit_normal_times(count: int, generator: torch.Generator, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    """Return `count` times in (0, 1), the sigmoid of normal draws (Esser et al. 2024, section 3.1)."""
    return torch.sigmoid(mean + std * torch.randn(count, generator=generator))


def times(steps: int) -> torch.Tensor:
    """Return the solver's times 1, 1 - 1/steps, ..., 0.

    All steps have the same length. (The scheduler of diffusers ends its grid at 0.001 before 0, which makes the last of
    its steps almost empty.)
    """
    return torch.linspace(1, 0, steps + 1)


@torch.no_grad()
def solve(velocity: Velocity, noise: torch.Tensor, steps: int, heun: bool) -> torch.Tensor:
    """Return the data that `noise` (B, ...) flows to: Euler's method, or Heun's (second order, two evaluations)."""
    x = noise
    grid = times(steps).tolist()
    for now, after in pairwise(grid):
        first = velocity(x, torch.full((len(x),), now, device=x.device))
        ahead = x + (after - now) * first
        if heun and after > 0:
            second = velocity(ahead, torch.full((len(x),), after, device=x.device))
            ahead = x + (after - now) * (first + second) / 2
        x = ahead
    return x


def guided(conditional: torch.Tensor, unconditional: torch.Tensor, weight: float) -> torch.Tensor:
    """Return unconditional + weight (conditional - unconditional) (Ho and Salimans 2022); 1 is purely conditional."""
    return unconditional + weight * (conditional - unconditional)
