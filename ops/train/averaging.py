"""Exponential weight averaging."""

import torch
from torch import nn


def ramped_decay(decay: float, step: int) -> float:
    """Return min(decay, (1 + step) / (10 + step)), the ramp of the papers' reference implementation."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int, statistics: str = "live") -> None:
    """Move `average` towards `model`: theta' <- tau theta' + (1 - tau) theta, after optimizer step `step` (from 0).

    By default only weights are averaged and buffers (BatchNorm statistics) are the live model's, as in the reference
    implementation of "Fixing Data Augmentation" (Rebuffi et al. 2021); `statistics="averaged"` averages them too.
    """
    move_average(average, model, 1 - ramped_decay(decay, step), statistics)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, share: float, statistics: str) -> None:
    """Move the average by `share` of the way to the model."""
    mine: list[torch.Tensor] = list(average.parameters())
    theirs: list[torch.Tensor] = list(model.parameters())
    torch._foreach_lerp_(mine, theirs, share)
    for kept, live in zip(average.buffers(), model.buffers(), strict=True):
        if statistics == "averaged" and kept.is_floating_point():
            kept.lerp_(live, share)
        else:
            kept.copy_(live)  # counters are copied, never averaged
