"""What the parts of `benchmarks.autoattack` share: the two sides of the comparison, and a network that hides its gradient."""

import copy

import torch
from torch import nn

from pipelines.project import STATE

HOME = STATE / "studies" / "autoattack"
"""What is measured is kept here."""
SIDES = ("reference", "ours")
LEVELS = 15


class Rounded(nn.Module):
    """A network behind a rounding of its input: gradients are 0, robustness is not what it seems."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return self.model((x * LEVELS).round() / LEVELS)


def contiguous(model: nn.Module) -> nn.Module:
    """Return the same network as users of the reference have it: contiguous tensors, parameters that want gradients."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
