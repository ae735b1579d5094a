"""Pre-activation residual networks as the robustness papers use them, with the normalisation inside.

Details follow the PyTorch model zoo of "Fixing Data Augmentation" (Rebuffi et al. 2021): SiLU, a last linear layer that
starts at zero, 3x3 shortcuts in the PreActResNet, 1x1 shortcuts on the activated input in the WideResNet.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ops.models.config import Architecture
from ops.runtime import derive_seed

BN_MOMENTUM = 0.01
"""PyTorch's momentum for the papers' decay of 0.99."""


class PreActBlock(nn.Module):
    """BN-SiLU-conv twice; where the shape changes, a 3x3 convolution of the input as it is."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(out)
        self.conv1 = _conv(channels, out, stride)
        self.conv2 = _conv(out, out, 1)
        self.shortcut = _conv(channels, out, stride) if stride != 1 or channels != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, out, H / stride, W / stride)."""
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + (x if self.shortcut is None else self.shortcut(x))


class WideBlock(nn.Module):
    """BN-SiLU-conv twice; where channels change, a 1x1 convolution of the activated input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(out)
        self.conv1 = _conv(channels, out, stride)
        self.conv2 = _conv(out, out, 1)
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False) if channels != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, out, H / stride, W / stride)."""
        active = F.silu(self.norm1(x))
        y = self.conv2(F.silu(self.norm2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class ResNet(nn.Module):
    """From images (N, 3, H, W) float32 in [0, 1] to logits (N, K)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, stem: nn.Conv2d, blocks: Sequence[nn.Module], channels: int, classes: int, final_norm: bool
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.norm = _norm(channels) if final_norm else nn.Identity()
        self.head = nn.Linear(channels, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pooled features (N, C) before the last layer."""
        y = self.blocks(self.stem((x - self.mean) / self.std))
        return F.silu(self.norm(y)).mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return self.head(self.features(x))


def build_classifier(
    architecture: Architecture, classes: int, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> ResNet:
    """Return an untrained classifier whose weights follow from `seed`; `mean` and `std` are for pixels in [0, 1]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        model = (
            _preact(architecture, classes) if architecture.family == "preact_resnet" else _wide(architecture, classes)
        )
    model.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
    model.std.copy_(torch.tensor(std).view(1, 3, 1, 1))
    return model


def _preact(architecture: Architecture, classes: int) -> ResNet:
    widths = architecture.widths
    stem = _conv(3, widths[0], architecture.stem_stride)
    blocks, channels = [], widths[0]
    for stage, (width, count) in enumerate(zip(widths, architecture.blocks, strict=True)):
        for number in range(count):
            blocks.append(PreActBlock(channels, width, 2 if stage and not number else 1))
            channels = width
    return ResNet(stem, blocks, channels, classes, final_norm=True)


def _wide(architecture: Architecture, classes: int) -> ResNet:
    per_stage = (architecture.depth - 4) // 6
    blocks, channels = [], 16
    for stage, width in enumerate(16 * architecture.width * 2**s for s in range(3)):
        for number in range(per_stage):
            blocks.append(WideBlock(channels, width, 2 if stage and not number else 1))
            channels = width
    return ResNet(_conv(3, 16, 1), blocks, channels, classes, final_norm=True)


def _conv(channels: int, out: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)
