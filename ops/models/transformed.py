"""The transformed kernels of Winograd's convolutions, kept for as long as weights stay what they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ops.models.kernels.compiling import aligned
from ops.models.schemes import SCHEMES

KEPT_BYTES = 2**31
"""Of the transformed kernels that `kept_kernels` keeps: some eight times the weights, forward and backward together."""
_KEPT: ContextVar[dict[tuple[int, bool, int], "_Kept"] | None] = ContextVar("_KEPT", default=None)
"""By the weight's address, `turned` and the number of points."""


class _Kept(NamedTuple):
    weight: torch.Tensor
    """So that its address stays taken."""
    version: int
    """Of the weight when it was transformed: torch counts changes in place."""
    kernel: np.ndarray


@contextmanager
def kept_kernels() -> Iterator[None]:
    """Transform each kernel once for as long as the block lasts, and again if its weight changes."""
    if _KEPT.get() is not None:
        yield
        return
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def transformed_bytes(conv: nn.Conv2d) -> int:
    """Return the size of a kernel that `transformed` returns."""
    return SCHEMES[conv.stride[0]].points * conv.in_channels * conv.out_channels * conv.weight.itemsize


def transformed(weight: torch.Tensor, stride: int, turned: bool) -> np.ndarray:
    """Return the transform (P, K / width, C, width) of `weight` (K, C, 3, 3), with vectors of outputs as one panel takes them.

    Or of the kernels (C, K, 3, 3) that lead gradients back, if `turned`.
    """
    from ops.models.kernels import winograd as compiled
    from ops.models.kernels.vectors import LANES

    scheme, kept = SCHEMES[stride], _KEPT.get()
    key = (weight.data_ptr(), turned, scheme.points)
    version = 0 if weight.is_inference() else weight._version  # tensors of inference mode count no changes
    if kept is not None and key in kept and kept[key].version == version:
        return kept[key].kernel
    taps = weight.permute(0, 2, 3, 1) if turned else weight.permute(1, 2, 3, 0)
    channels, out = taps.shape[0], taps.shape[3]
    width = LANES * (1 if out % (2 * LANES) else 2)
    kernel = aligned(scheme.points, out // width, channels, width)
    compiled.transform_taps(compiled.NUMBERS[scheme.taps[turned]], taps.detach().contiguous().numpy(), kernel)
    if kept is not None and sum(each.kernel.nbytes for each in kept.values()) + kernel.nbytes <= KEPT_BYTES:
        kept[key] = _Kept(weight, version, kernel)
    return kernel
