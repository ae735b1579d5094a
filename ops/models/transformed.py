"""What is made of a network's weights, as transformed kernels are, kept for as long as these stay what they are."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import nn

from ops.models.kernels.compiling import aligned
from ops.models.schemes import SCHEMES

KEPT_BYTES = 2**31
"""Of what `kept_kernels` keeps: kernels are some eight times the weights, forward and backward together."""
_KEPT: ContextVar[dict[tuple[int, Hashable], "_Kept"] | None] = ContextVar("_KEPT", default=None)
"""By the address of the first source, and what it was made into."""


class Sized(Protocol):
    """What can be kept."""

    @property
    def nbytes(self) -> int:
        """Return its size in bytes."""


Made = TypeVar("Made", bound=Sized)


class _Kept(NamedTuple):
    sources: Sequence[torch.Tensor]
    """So that their addresses stay taken."""
    versions: list[int]
    """Of the sources when it was made: torch counts changes in place."""
    made: Sized


@contextmanager
def kept_kernels() -> Iterator[None]:
    """Make what is made of weights once for as long as the block lasts, and again if they change."""
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

    scheme = SCHEMES[stride]

    def make() -> np.ndarray:
        taps = weight.permute(0, 2, 3, 1) if turned else weight.permute(1, 2, 3, 0)
        channels, out = taps.shape[0], taps.shape[3]
        width = LANES * vectors(out)
        kernel = aligned(scheme.points, out // width, channels, width)
        compiled.transform_taps(compiled.NUMBERS[scheme.taps[turned]], taps.detach().contiguous().numpy(), kernel)
        return kernel

    return made_once([weight], scheme.taps[turned], make)


def vectors(out: int) -> int:
    """Return how many vectors of `out` outputs, a multiple of LANES, one panel of the products takes."""
    from ops.models.kernels.vectors import LANES

    return 1 if out % (2 * LANES) else 2


def made_once(sources: Sequence[torch.Tensor], name: Hashable, make: Callable[[], Made]) -> Made:
    """Return what `make` makes of parameters or buffers of a network: something that says its size in bytes.

    Within `kept_kernels` once for each `name` and first of the `sources`, and again if one of them changes.
    """
    kept, key = _KEPT.get(), (sources[0].data_ptr(), name)
    # tensors of inference mode count no changes
    versions = [0 if source.is_inference() else source._version for source in sources]
    if kept is not None and key in kept and kept[key].versions == versions:
        return cast(Made, kept[key].made)
    made = make()
    if kept is not None and sum(each.made.nbytes for each in kept.values()) + made.nbytes <= KEPT_BYTES:
        kept[key] = _Kept(sources, versions, made)
    return made


def is_kept(made: Sized) -> bool:
    """Return whether `made_once` keeps what it returned."""
    return any(each.made is made for each in (_KEPT.get() or {}).values())
