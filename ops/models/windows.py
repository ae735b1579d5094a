"""A network's answers to images that differ from remembered ones in a window: early layers are computed only where they change.

A convolution of 3x3 pixels carries a change one pixel further. Of a network's first stage, a window of few pixels changes
little: of its maps, those of the remembered images are kept, and the tiles that a window reaches are computed again. What
comes out is what the whole network gives, up to rounding: a pixel that no change reaches may lie in a tile of Winograd's
algorithm that one does, and its last bit would be another. It depends on the image's own windows only, not on its batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ops.models import norm_silu, winograd
from ops.models.kernels.compiling import match_threads, pixels_of

if TYPE_CHECKING:
    from ops.models.resnet import NormAct, PreActBlock, ResNet, WideBlock

STEP = winograd.STEP
MAPS_BYTES = 2**31
"""Of remembered maps; the blocks beyond are computed as a whole."""
_ASKED: ContextVar["Windows | None"] = ContextVar("_ASKED", default=None)


class Window(NamedTuple):
    """A rectangle in each image: its first row and column and those after the last, (N,) int64 each."""

    top: np.ndarray
    left: np.ndarray
    bottom: np.ndarray
    right: np.ndarray

    def wider(self, height: int, width: int) -> Self:
        """Return the window with one pixel more on each side, in images of that size."""
        top, left = np.maximum(self.top - 1, 0), np.maximum(self.left - 1, 0)
        return type(self)(top, left, np.minimum(self.bottom + 1, height), np.minimum(self.right + 1, width))

    def halved(self) -> Self:
        """Return the window that a convolution of stride 2 makes of it: pixel i of its output sees pixels 2 i to 2 i + 2."""
        top, left = np.maximum(self.top - 1, 0) // 2, np.maximum(self.left - 1, 0) // 2
        return type(self)(top, left, (self.bottom + 1) // 2, (self.right + 1) // 2)

    def tiles(self, height: int, width: int) -> np.ndarray:
        """Return the places (T,) int64 of the tiles with a pixel in the window, row by row, image after image."""
        rows, columns = np.arange(0, height, STEP), np.arange(0, width, STEP)
        down = (rows < self.bottom[:, None]) & (rows + STEP > self.top[:, None])
        across = (columns < self.right[:, None]) & (columns + STEP > self.left[:, None])
        return np.flatnonzero(down[:, :, None] & across[:, None, :])


class _Maps(NamedTuple):
    """What a block makes of images, (N, C, H, W) each: the inputs of its convolutions, and its output."""

    first: torch.Tensor
    second: torch.Tensor
    out: torch.Tensor


class Windows:
    """The maps of images under a network's first blocks, as they are kept, and as they are tried with a window changed."""

    def __init__(self, model: "ResNet", kept: list[_Maps], tried: list[_Maps]) -> None:
        self.model, self.kept, self.tried = model, kept, tried
        self.window: Window | None = None
        self.places = np.empty(0, np.int64)

    @contextmanager
    def changed(self, top: torch.Tensor, left: torch.Tensor, side: int) -> Iterator[None]:
        """Let the network be asked, once, for the remembered images with other squares of `side` pixels at corners (N,)."""
        rows, columns = top.numpy(), left.numpy()
        self.window = Window(rows, columns, rows + side, columns + side)
        token = _ASKED.set(self)
        try:
            yield
        finally:
            _ASKED.reset(token)

    def keep(self, chosen: torch.Tensor) -> None:
        """Remember the images (N,) bool that are `chosen` as they were asked for, and the others as they were before."""
        from ops.models.kernels import tiles

        match_threads()
        for tried, kept in zip(self.tried, self.kept, strict=True):
            for a, b in zip(tried, kept, strict=True):
                tiles.settle(pixels_of(a), pixels_of(b), self.places, chosen.numpy())

    def only(self, order: torch.Tensor) -> "Windows":
        """Return the same for the images at `order` (M,) int64, which moves few: those that are not at their place."""
        count, moved = len(order), (order != torch.arange(len(order))).nonzero()[:, 0]
        for maps in (*self.kept, *self.tried):
            for each in maps:
                each[moved] = each[order[moved]]
        kept, tried = ([_Maps(*(e[:count] for e in maps)) for maps in every] for every in (self.kept, self.tried))
        return Windows(self.model, kept, tried)

    def pass_blocks(self, x: torch.Tensor) -> tuple[torch.Tensor, nn.Module]:
        """Return the map after the first blocks, from the stem's map `x` (N, C, H, W), and the blocks that are left."""
        assert self.window is not None
        height, width = x.shape[2:]
        window = self.window.halved() if self.model.stem.stride == (2, 2) else self.window.wider(height, width)
        for block, maps in zip(self.model.blocks, self.tried, strict=False):
            places = [window.tiles(height, width)]
            for _ in range(2):
                window = window.wider(height, width)
                places.append(window.tiles(height, width))
            _pass_block(block, x, maps, places)  # type: ignore[arg-type]
            x, self.places = maps.out, places[-1]
        return x, self.model.blocks[len(self.tried) :]


def asked(model: "ResNet") -> Windows | None:
    """Return what is remembered of the images that differ in a window from those that the network is being asked for."""
    windows = _ASKED.get()
    return windows if windows is not None and windows.model is model else None


@torch.no_grad()
def remember(model: nn.Module, images: torch.Tensor, side: int) -> Windows | None:
    """Return the network's maps of `images` (N, 3, H, W), to ask for images with other squares of `side` pixels in them.

    None where it would not be faster, or not the same: other networks than a ResNet with SiLU in evaluation, whose first
    blocks `ops.models.winograd` computes; squares that with what they reach cover most of an image.
    """
    from ops.models.resnet import ResNet

    if not isinstance(model, ResNet) or model.stem.stride not in ((1, 1), (2, 2)) or model.stem.kernel_size != (3, 3):
        return None
    if model.stem.stride == (2, 2) and (images.shape[2] % 2 or images.shape[3] % 2):  # SAME pads other sides elsewhere
        return None
    if 2 * side > min(images.shape[2:]):
        return None
    x, kept, left = model.stem(model.normalise(images)), [], MAPS_BYTES
    everywhere = np.arange(len(x) * -(-x.shape[2] // STEP) * -(-x.shape[3] // STEP))
    for block in model.blocks:
        if not _is_local(block, x):  # type: ignore[arg-type]
            break
        shape = len(x), block.conv1.out_channels, *x.shape[2:]  # type: ignore[union-attr]
        out = torch.empty(shape, memory_format=torch.channels_last)
        maps = _Maps(torch.empty_like(x), torch.empty_like(out), out)
        left -= 2 * sum(each.nbytes for each in maps)
        if left < 0:
            break
        _pass_block(block, x, maps, [everywhere] * 3)  # type: ignore[arg-type]
        kept.append(maps)
        x = out
    return Windows(model, kept, [_Maps(*(each.clone() for each in maps)) for maps in kept]) if kept else None


def _is_local(block: "PreActBlock | WideBlock", x: torch.Tensor) -> bool:
    """Return whether the block keeps the size of its input `x`, in operations that are computed here."""
    return (
        block.conv1.stride == (1, 1)
        and (block.shortcut is None or block.shortcut.kernel_size == (1, 1))
        and winograd.fits(block.conv1, x)
        and block.conv2.out_channels % winograd.CHANNELS == 0
        and all(act.activate is F.silu and not act.norm.training for act in (block.norm1, block.norm2))
        and norm_silu.fits(block.norm1.norm, x)
        and block.norm2.norm.track_running_stats
    )


def _pass_block(block: "PreActBlock | WideBlock", x: torch.Tensor, maps: _Maps, places: list[np.ndarray]) -> None:
    """Compute the tiles of a block's `maps` that change: of its input's, its first and its second convolution's map."""
    from ops.models.kernels import tiles

    match_threads()
    made = torch.empty_like(maps.out)
    _activate(block.norm1, x, places[0], maps.first)
    winograd.convolve_tiles(maps.first, block.conv1.weight, made, places[1])
    _activate(block.norm2, made, places[1], maps.second)
    winograd.convolve_tiles(maps.second, block.conv2.weight, made, places[2])
    beside = x if block.shortcut is None else block.shortcut(maps.first)
    tiles.add(pixels_of(made), pixels_of(beside), places[2], pixels_of(maps.out))


def _activate(act: "NormAct", x: torch.Tensor, places: np.ndarray, y: torch.Tensor) -> None:
    from ops.models.kernels import tiles

    mean, scale, offset = norm_silu.frozen_statistics(act.norm)
    tiles.normalise_silu(pixels_of(x), places, mean, scale, offset, pixels_of(y))
