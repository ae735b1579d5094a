"""Compile all loops once; every later process finds them beside their source.

    python -m ops.models.kernels

Without this the first training compiles them.
"""

import torch
from torch import nn

from ops.models.build import build_classifier
from ops.models.chain import Layer, Link, Whole
from ops.models.config import Architecture
from ops.models.norm_silu import norm_silu
from ops.models.windows import remember
from ops.models.winograd import winograd

CHANNELS = 32


def compile_all() -> None:
    """Run every loop on a small batch, in training and in evaluation, forward and backward."""
    images = torch.rand(16, CHANNELS, 16, 16).to(memory_format=torch.channels_last).requires_grad_(True)
    weight = torch.rand(CHANNELS, CHANNELS, 3, 3, requires_grad=True)
    norm = nn.BatchNorm2d(CHANNELS)
    norm_silu(norm, winograd(images, weight)).sum().backward()
    winograd(images, weight, stride=2).sum().backward()
    norm.eval().requires_grad_(False)
    norm_silu(norm, images).sum().backward()
    model = build_classifier(
        Architecture(widths=[CHANNELS], blocks=[1], stem_stride=1), 2, [0.5] * 3, [0.5] * 3, 0
    ).eval()
    pixels = torch.rand(8, 3, 16, 16).to(memory_format=torch.channels_last)
    known = remember(model.to(memory_format=torch.channels_last), pixels, 1)  # type: ignore[call-overload]
    assert known is not None
    known.spread(torch.arange(8))
    corner = torch.zeros(8, 1, dtype=torch.int64)
    with torch.no_grad(), known.changed(corner, corner, 1):
        model(pixels)
    known.keep(corner[:, 0] == 0)
    convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    with torch.no_grad():
        Whole(len(images)).run([Link(Layer(convolution, quick=True), images, torch.empty_like(images))])  # type: ignore[arg-type]
    model.requires_grad_(False)(pixels.requires_grad_(True)).sum().backward()


if __name__ == "__main__":
    compile_all()
