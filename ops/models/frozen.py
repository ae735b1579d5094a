"""Models whose parameters nobody asks a gradient of."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ops.models.winograd import kept_kernels


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
