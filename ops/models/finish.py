"""What is done to a convolution's output, tile by tile where it is computed so, else all at once."""

from typing import Any, NamedTuple

import numpy as np
import torch

from ops.models.kernels.compiling import match_threads

_NOTHING = torch.empty(0)
LINE_BYTES = 64
"""Of the cache, on all CPUs that matter here, or a multiple of it."""


class Finish(NamedTuple):
    """A kind of `ops.models.kernels.finish`, and the maps (N, C, H, W), channels_last, and the norm that it uses.

    `norm` (3, C) is what a norm in evaluation takes off, multiplies by and adds.
    """

    kind: str
    beside: torch.Tensor | None = None
    active: torch.Tensor | None = None
    slopes: torch.Tensor | None = None
    norm: np.ndarray | None = None

    def check(self) -> None:
        """Raise ValueError for slopes that begin elsewhere than at a line of the cache, which are written line by line."""
        if self.slopes is not None and self.slopes.data_ptr() % LINE_BYTES:
            raise ValueError(f"slopes do not begin at a multiple of {LINE_BYTES} bytes, as torch's own memory does")

    def arguments(self) -> tuple[Any, ...]:
        """Return what the compiled loops take."""
        from ops.models.kernels.finish import NUMBERS

        self.check()
        maps = (flat(_NOTHING if each is None else each) for each in (self.beside, self.active, self.slopes))
        norm = _NOTHING.numpy() if self.norm is None else self.norm.reshape(-1)
        return NUMBERS[self.kind], *maps, norm

    def whole(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Do it with a whole output `x` (N, C, H, W); where it is kept, or what is made of it, is `y`."""
        from ops.models.kernels.finish import finish_all

        match_threads()
        kind, *rest = self.arguments()
        finish_all(kind, flat(x), flat(y), *rest, x.shape[3], x.shape[1])


AS_IT_IS = Finish("as it is")


def flat(x: torch.Tensor) -> np.ndarray:
    """Return channels_last images (N, C, H, W) as one row of numbers, pixel after pixel, of the same memory."""
    return (x.detach().permute(0, 2, 3, 1) if x.ndim == 4 else x).view(-1).numpy()
