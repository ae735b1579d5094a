"""Pre-activation residual networks as the robustness papers use them.

Details follow the model zoo of "Fixing Data Augmentation to Improve Adversarial Robustness" (Rebuffi et al. 2021):
SiLU, a last linear layer that starts at zero, 3x3 shortcuts of the input as it is in the PreActResNet, 1x1 shortcuts of
the activated input in the WideResNet, and SAME padding. A WideResNet of width 1 keeps the identity in its first stage,
where the channels do not change, as the zoo's PyTorch version does (its JAX version projects there too).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_input

from ops.models import blocks as passing
from ops.models import stem, windows, winograd
from ops.models.base import Classifier
from ops.models.config import Architecture
from ops.models.norm_silu import fits, norm_silu

BN_MOMENTUM = 0.01
"""PyTorch's momentum for the papers' decay of 0.99."""

ACTIVATIONS = {"silu": F.silu, "relu": F.relu}


class NormAct(nn.Module):
    """BatchNorm and the activation, of images (N, C, H, W); one operation where there is one for both."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)
        self.activate = ACTIVATIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated images (N, C, H, W)."""
        if self.activate is F.silu and fits(self.norm, x):
            return norm_silu(self.norm, x)
        return self.activate(self.norm(x))


class Conv(nn.Conv2d):
    """A convolution without bias and with SAME padding, which makes sides ceil(H / stride).

    What is missing is padded, half of it on each side, and where it is odd, the odd pixel at the bottom and right: a 3x3
    kernel of stride 2 pads images of even sides with (0, 1), not with PyTorch's usual (1, 1). Weights start as a normal
    distribution of variance 1 / fan-in, truncated at two of its standard deviations.
    """

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False)
        fan_in_truncated_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved images (N, out, ceil(H / stride), ceil(W / stride))."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        if winograd.fits(self, x):
            return winograd.winograd(x, self.weight, stride)
        if stride == 1:
            return super().forward(x)
        height, width = same_padding(x.shape[2], kernel, stride), same_padding(x.shape[3], kernel, stride)
        return super().forward(F.pad(x, (*width, *height)) if any(width + height) else x)

    def led_back(self, gradient: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return the gradient (N, C, height, width) of images of that size, given the output's, by torch's convolution."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        down, across = (same_padding(side, kernel, stride) if stride > 1 else (0, 0) for side in (height, width))
        padded = len(gradient), self.in_channels, height + sum(down), width + sum(across)
        images = conv2d_input(padded, self.weight, gradient, self.stride, self.padding)
        return images[:, :, down[0] : down[0] + height, across[0] : across[0] + width]


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after a side of that many pixels, as TensorFlow's SAME defines it."""
    missing = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return missing // 2, missing - missing // 2


def fan_in_truncated_(weight: torch.Tensor) -> None:
    """Fill `weight` (out, in, ...) from a truncated normal distribution of variance 1 / fan-in."""
    # 0.8796 is the standard deviation of a standard normal distribution that is cut off at -2 and 2
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class PreActBlock(nn.Module):
    """Norm-activation-convolution twice; where the shape changes, a 3x3 convolution of the input as it is."""

    projects_active = False

    def __init__(self, channels: int, out: int, stride: int, activation: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = NormAct(channels, activation), NormAct(out, activation)
        self.conv1, self.conv2 = Conv(channels, out, stride=stride), Conv(out, out)
        self.shortcut = Conv(channels, out, stride=stride) if stride != 1 or channels != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, out, H / stride, W / stride)."""
        y = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return y + (x if self.shortcut is None else self.shortcut(x))


class WideBlock(nn.Module):
    """Norm-activation-convolution twice; where channels change, a 1x1 convolution of the activated input."""

    projects_active = True

    def __init__(self, channels: int, out: int, stride: int, activation: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = NormAct(channels, activation), NormAct(out, activation)
        self.conv1, self.conv2 = Conv(channels, out, stride=stride), Conv(out, out)
        self.shortcut = Conv(channels, out, kernel=1, stride=stride) if channels != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, out, H / stride, W / stride)."""
        active = self.norm1(x)
        y = self.conv2(self.norm2(self.conv1(active)))
        return y + (x if self.shortcut is None else self.shortcut(active))


class ResNet(Classifier):
    """A stem, blocks, a last norm and activation, and the mean over all pixels or over each part of a grid."""

    def __init__(
        self, first: Conv, blocks: Sequence[nn.Module], channels: int, classes: int, architecture: Architecture
    ) -> None:
        super().__init__(channels * architecture.grid**2, classes)
        self.stem = first
        self.blocks = nn.Sequential(*blocks)
        self.norm = NormAct(channels, architecture.activation)
        self.grid = architecture.grid

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (N, C grid^2), means over parts of the last map, of images (N, 3, H, W) in [0, 1]."""
        remembered = None if torch.compiler.is_compiling() else windows.asked(self)
        if remembered is not None:
            last = self._last_map(*remembered.pass_blocks(x))
        else:
            last = self._last_map(self._mapped(x), None, passing.blocks_of(self))
        return last.mean(dim=(2, 3)) if self.grid == 1 else F.adaptive_avg_pool2d(last, self.grid).flatten(1)

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        return stem.map_images(self, x) if stem.fits(self, x) else self.stem(self.normalise(x))

    def _last_map(
        self, x: torch.Tensor, active: torch.Tensor | None, blocks: list[PreActBlock | WideBlock]
    ) -> torch.Tensor:
        """Return norm(blocks(x)), activated; `active` is what the next norm and activation make of `x`, if that is known."""
        if active is not None and not blocks:
            return active
        if passing.fits(blocks, self.norm, x):
            return passing.pass_blocks(blocks, self.norm, x, active)
        for block in blocks:
            x = block(x)
        return self.norm(x)


def preact_resnet(architecture: Architecture, classes: int) -> ResNet:
    """Return a PreActResNet; every stage but the first halves the sides."""
    first = Conv(3, architecture.widths[0], stride=architecture.stem_stride)
    return _resnet(PreActBlock, first, architecture.widths, architecture.blocks, classes, architecture)


def wide_resnet(architecture: Architecture, classes: int) -> ResNet:
    """Return a WideResNet: three stages of n = (depth - 4) / 6 blocks, with 16, 32 and 64 times `width` channels."""
    widths = [16 * architecture.width * 2**stage for stage in range(3)]
    blocks = [(architecture.depth - 4) // 6] * 3
    return _resnet(WideBlock, Conv(3, 16), widths, blocks, classes, architecture)


def _resnet(
    block: type[PreActBlock] | type[WideBlock],
    first: Conv,
    widths: Sequence[int],
    counts: Sequence[int],
    classes: int,
    architecture: Architecture,
) -> ResNet:
    blocks, channels = [], first.out_channels
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for number in range(count):
            blocks.append(block(channels, width, 2 if stage and not number else 1, architecture.activation))
            channels = width
    return ResNet(first, blocks, channels, classes, architecture)
