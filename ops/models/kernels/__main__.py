"""Compile all loops once; every later process finds them beside their source.

    python -m ops.models.kernels

Without this the first training compiles them.
"""

import torch
from torch import nn

from ops.models.norm_silu import norm_silu
from ops.models.winograd import winograd

CHANNELS = 32


def compile_all() -> None:
    """Run every loop on a small batch, in training and in evaluation, forward and backward."""
    images = torch.rand(8, CHANNELS, 16, 16).to(memory_format=torch.channels_last).requires_grad_(True)
    weight = torch.rand(CHANNELS, CHANNELS, 3, 3, requires_grad=True)
    norm = nn.BatchNorm2d(CHANNELS)
    norm_silu(norm, winograd(images, weight)).sum().backward()
    winograd(images, weight, stride=2).sum().backward()
    norm.eval().requires_grad_(False)
    norm_silu(norm, images).sum().backward()


if __name__ == "__main__":
    compile_all()
