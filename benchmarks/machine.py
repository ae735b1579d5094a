"""What this machine can do at best, and what a network asks of it."""

import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.backends.cpu import get_cpu_capability
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ops.models import winograd
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.models.resnet import Conv
from ops.models.schemes import multiplications


def machine() -> dict[str, Any]:
    """Return what seconds depend on: the processor with the vector instructions that torch uses, and torch's threads."""
    return {"processor": f"{_processor()}, {get_cpu_capability()}", "threads": torch.get_num_threads()}


def _processor() -> str:
    """Return the processor's name, if the system tells; else its kind."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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


def saved_flops(model: nn.Module, x: torch.Tensor) -> int:
    """Return by how many operations fewer a forward pass of an image of `x` (N, 3, H, W) takes by Winograd's algorithm."""
    saved = 0.0

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal saved
        assert isinstance(layer, Conv)
        if winograd.fits(layer, *inputs):
            stride = layer.stride[0]
            pixels = inputs[0].shape[2] * inputs[0].shape[3] // stride**2
            saved += 2 * layer.weight.numel() * pixels * (1 - multiplications(stride))

    hooks = [layer.register_forward_pre_hook(look) for layer in model.modules() if isinstance(layer, Conv)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return int(saved)
