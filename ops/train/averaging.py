"""Weight averaging."""

import torch


def ramped_decay(decay: float, step: int) -> float:
    """Return min(decay, (1 + step) / (10 + step)), the ramp of the papers' reference implementation."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: torch.nn.Module, model: torch.nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `model`: theta' <- tau theta' + (1 - tau) theta, after optimizer step `step` (from 0).

    Only weights are averaged; buffers (BatchNorm statistics) are the live model's, as in the reference implementation
    of "Fixing Data Augmentation" (Rebuffi et al. 2021).
    """
    tau = ramped_decay(decay, step)
    mine: list[torch.Tensor] = list(average.parameters())
    theirs: list[torch.Tensor] = list(model.parameters())
    torch._foreach_lerp_(mine, theirs, 1 - tau)
    for kept, live in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(live)
