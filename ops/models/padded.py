"""Networks with channels added that are always zero, as many as the quick paths of the CPU need.

Loops of vector instructions take channels in groups (`ops.models.winograd.CHANNELS`). Channels without weights change no
answer, and where they are few, they cost less than what torch does without those loops.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from ops.models.resnet import Conv, NormAct, ResNet
from ops.models.winograd import CHANNELS

WORTH = 2
"""Channels may become so many times as many: Winograd's algorithm saves more than that."""


@contextmanager
def padded_channels(model: nn.Module) -> Iterator[None]:
    """Let every ResNet within `model` have channels in multiples of CHANNELS for as long as the block lasts.

    For networks in evaluation whose parameters no gradient is asked of, in float32 on the CPU, and only where that adds few
    channels. Answers and gradients of images are the same up to rounding. The network's own parameters and statistics stay
    as they are, and are in its place again afterwards.
    """
    changed = [part for part in model.modules() if isinstance(part, ResNet) and _pays(part)]
    kept = [dict(part._modules) for part in changed]
    try:
        for part in changed:
            _pad(part)
        yield
    finally:
        for part, modules in zip(changed, kept, strict=True):
            part._modules.update(modules)


def _rounded(channels: int) -> int:
    return -(-channels // CHANNELS) * CHANNELS


def _pays(model: ResNet) -> bool:
    widths = {conv.out_channels for conv in model.modules() if isinstance(conv, Conv)}
    return (
        any(width % CHANNELS for width in widths)
        and all(_rounded(width) <= WORTH * width for width in widths)
        and not any(part.training for part in model.modules())
        and all(p.device.type == "cpu" and p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())
    )


def _pad(model: ResNet) -> None:
    """Put padded copies in the place of the network's layers."""
    channels = model.norm.norm.num_features
    for name in ("stem", "blocks", "norm", "head"):
        setattr(model, name, copy.deepcopy(getattr(model, name)))
    for part in model.modules():
        if isinstance(part, Conv):
            _pad_convolution(part, images=part is model.stem)
        elif isinstance(part, NormAct):
            _pad_norm(part.norm)
    head, added = model.head, _rounded(channels) - channels
    pixels = F.pad(head.weight.unflatten(1, (channels, -1)), (0, 0, 0, added))
    head.weight, head.in_features = _frozen(pixels.flatten(1)), pixels[0].numel()


def _pad_convolution(conv: Conv, images: bool) -> None:
    """Add outputs of zero, and inputs unless these are `images`."""
    inputs, outputs = conv.in_channels if images else _rounded(conv.in_channels), _rounded(conv.out_channels)
    weight = F.pad(conv.weight, (0, 0, 0, 0, 0, inputs - conv.in_channels, 0, outputs - conv.out_channels))
    conv.weight = _frozen(weight.contiguous(memory_format=torch.channels_last))
    conv.in_channels, conv.out_channels = inputs, outputs


def _pad_norm(norm: nn.BatchNorm2d) -> None:
    """Add channels that are multiplied by 0."""
    added = _rounded(norm.num_features) - norm.num_features
    norm.weight, norm.bias = _frozen(F.pad(norm.weight, (0, added))), _frozen(F.pad(norm.bias, (0, added)))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean, norm.running_var = (
        F.pad(norm.running_mean, (0, added)),
        F.pad(norm.running_var, (0, added), value=1),
    )
    norm.num_features += added


def _frozen(weight: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)
