"""What this machine can do at best, and what a network asks of it."""

import time

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ops.models.build import build_classifier
from ops.models.config import Architecture


def matmul_peak(side: int = 2048, times: int = 5) -> float:
    """Return the best GFLOP/s of a float32 matrix product."""
    a, b = torch.ones(side, side), torch.ones(side, side)
    best = float("inf")
    for _ in range(times + 1):
        begun = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best / 1e9


def convolution_peak(channels: int = 256, side: int = 16, images: int = 16, times: int = 5) -> float:
    """Return the best GFLOP/s of a direct 3x3 convolution in float32, images and kernels in channels_last."""
    x = torch.ones(images, channels, side, side).contiguous(memory_format=torch.channels_last)
    kernels = torch.ones(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(times + 1):
        begun = time.perf_counter()
        functional.conv2d(x, kernels, padding=1)
        best = min(best, time.perf_counter() - begun)
    return 2 * 9 * channels**2 * side**2 * images / best / 1e9


def forward_flops(architecture: Architecture, classes: int, side: int) -> int:
    """Return the operations of a forward pass of one image; convolutions count as direct ones, however computed."""
    model = build_classifier(architecture, classes, [0.5] * 3, [0.25] * 3, 0).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side, device="meta"))
    return int(counter.get_total_flops())
