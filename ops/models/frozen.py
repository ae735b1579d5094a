"""Models whose parameters nobody asks a gradient of."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ops.models import winograd
from ops.models.transformed import kept_kernels


class _QuickConv(nn.Conv2d):
    """torch's layer, by Winograd's algorithm where that is faster."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return winograd.winograd(x, self.weight) if winograd.fits(self, x) else super().forward(x)


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """Let no operation prepare for gradients of parameters, which stay as they are: attacks want those of images only.

    Without it, operations keep inputs for a gradient that is never asked, and those that cannot know so compute it; and
    kernels are transformed anew for each convolution.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        with kept_kernels():
            yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def quick_convolutions(model: nn.Module) -> Iterator[None]:
    """Let layers of torch convolve as ours do for as long as the block lasts: networks may have been built elsewhere.

    Those of stride 1 that pad with zeros, which `winograd.fits` takes for granted; it looks at all the rest.
    """
    plain = [layer for layer in model.modules() if type(layer) is nn.Conv2d]
    chosen = [layer for layer in plain if layer.stride == (1, 1) and layer.padding_mode == "zeros"]
    for layer in chosen:
        layer.__class__ = _QuickConv
    try:
        yield
    finally:
        for layer in chosen:
            layer.__class__ = nn.Conv2d
