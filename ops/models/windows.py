"""A network's answers to images that differ from remembered ones in squares: early layers are computed only where they change.

A convolution of 3x3 pixels carries a change one pixel further. Of a network's first stage, squares of few pixels change
little: of its maps, those of the remembered images are kept, and the tiles that a change reaches are computed again. What
comes out is what the whole network gives, up to rounding: a pixel that no change reaches may lie in a tile of Winograd's
algorithm that one does, and its last bit would be another. It depends on the image's own windows only, not on its batch.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ops.models import norm_silu, stem, winograd
from ops.models.blocks import blocks_of, norms_after, statistics
from ops.models.finish import Finish
from ops.models.kernels.compiling import match_threads
from ops.models.schemes import STEP, count_tiles

if TYPE_CHECKING:
    from ops.models.blocks import Block
    from ops.models.resnet import ResNet

MAPS_BYTES = 2**31
"""Of remembered maps; the blocks beyond are computed as a whole."""
_ASKED: ContextVar["Windows | None"] = ContextVar("_ASKED", default=None)


class Window(NamedTuple):
    """K rectangles in each image: their first rows and columns and those after the last, (N, K) int64 each."""

    top: np.ndarray
    left: np.ndarray
    bottom: np.ndarray
    right: np.ndarray

    def wider(self, height: int, width: int) -> Self:
        """Return the rectangles with one pixel more on each side, in images of that size."""
        top, left = np.maximum(self.top - 1, 0), np.maximum(self.left - 1, 0)
        return type(self)(top, left, np.minimum(self.bottom + 1, height), np.minimum(self.right + 1, width))

    def halved(self) -> Self:
        """Return what a convolution of stride 2 makes of them: pixel i of its output sees pixels 2 i to 2 i + 2."""
        top, left = np.maximum(self.top - 1, 0) // 2, np.maximum(self.left - 1, 0) // 2
        return type(self)(top, left, (self.bottom + 1) // 2, (self.right + 1) // 2)

    def tiles(self, height: int, width: int) -> np.ndarray:
        """Return the places (T,) int64 of the tiles with a pixel in a rectangle, row by row, image after image."""
        rows, columns = np.arange(0, height, STEP), np.arange(0, width, STEP)
        down = (rows < self.bottom[..., None]) & (rows + STEP > self.top[..., None])
        across = (columns < self.right[..., None]) & (columns + STEP > self.left[..., None])
        return np.flatnonzero((down[..., :, None] & across[..., None, :]).any(axis=1))


MAPS = 3
"""That a block adds to those of the stem and of the blocks before it: see `_pass_block`."""
FIRST = 2
"""The stem's map, and what the first norm and SiLU make of it."""


class Windows:
    """The maps of images under a network's first blocks, as they are kept, and as they are tried with squares changed."""

    def __init__(self, model: "ResNet", kept: list[torch.Tensor]) -> None:
        self.model, self.kept, self.tried = model, kept, list[torch.Tensor]()
        self.rows = np.empty(0, np.int64)
        self.maps = np.empty((0, 4), np.int64)
        """See `ops.models.kernels.tiles.keep_windows`."""
        self.window: Window | None = None
        self.reached = list[Window]()
        """Where the maps change: those of the stem, and what each convolution of the blocks makes."""

    def spread(self, rows: torch.Tensor) -> None:
        """Let each row (R,) of the next batches be a change of the remembered image that `rows` int64 says."""
        self.rows = rows.numpy()
        self.tried = [each[rows].contiguous(memory_format=torch.channels_last) for each in self.kept]
        pairs = enumerate(zip(self.tried, self.kept, strict=True))
        self.maps = np.array([(t.data_ptr(), k.data_ptr(), k.shape[1], _level(n)) for n, (t, k) in pairs])

    @contextmanager
    def changed(self, top: torch.Tensor, left: torch.Tensor, side: int) -> Iterator[None]:
        """Let the network be asked, once, for its rows' images with other squares of `side` pixels at corners (R, K) int64."""
        rows, columns = top.numpy(), left.numpy()
        self.window = Window(rows, columns, rows + side, columns + side)
        token = _ASKED.set(self)
        try:
            yield
        finally:
            _ASKED.reset(token)

    def keep(self, chosen: torch.Tensor) -> None:
        """Remember the rows (R,) bool that are `chosen`, at most one of an image, and the other images as they were before."""
        from ops.models.kernels import tiles

        match_threads()
        reached = np.stack([np.stack(window, axis=2) for window in self.reached], axis=1)
        tiles.keep_windows(self.maps, self.rows, chosen.numpy(), reached, *self.kept[0].shape[2:])

    def only(self, order: torch.Tensor) -> "Windows":
        """Return the same for the images at `order` (M,) int64, which moves few: those that are not at their place."""
        count, moved = len(order), (order != torch.arange(len(order))).nonzero()[:, 0]
        for each in self.kept:
            each[moved] = each[order[moved]]
        return Windows(self.model, [each[:count] for each in self.kept])

    def pass_blocks(self, images: torch.Tensor) -> "tuple[torch.Tensor, torch.Tensor, list[Block]]":
        """Return the map after the first blocks, given `images` (N, C, H, W), its activation, and the blocks that are left."""
        assert self.window is not None
        height, width = self.tried[0].shape[2:]
        window = self.window.halved() if self.model.stem.stride == (2, 2) else self.window.wider(height, width)
        self.reached = [window]
        blocks, count = blocks_of(self.model), len(self.kept) // MAPS
        mapped, active = self.tried[:FIRST]
        places = [window.tiles(height, width)]
        stem.map_tiles(self.model, images, places[0], mapped, active, statistics(blocks[0].norm1))
        for number in range(count):
            places = []
            for _ in range(2):
                window = window.wider(height, width)
                self.reached.append(window)
                places.append(window.tiles(height, width))
            _pass_block(self.model, number, self.tried, places)
        return self.tried[-2], self.tried[-1], blocks[count:]


def _level(number: int) -> int:
    """Return which of the windows that a change reaches is that of a map: see `FIRST` and `MAPS`."""
    block, place = divmod(number - FIRST, MAPS)
    return 0 if number < FIRST else 2 * block + (1 if place == 0 else 2)


def asked(model: "ResNet") -> Windows | None:
    """Return what is remembered of the images that differ in a window from those that the network is being asked for."""
    windows = _ASKED.get()
    return windows if windows is not None and windows.model is model else None


@torch.no_grad()
def remember(
    model: nn.Module, images: torch.Tensor, side: int, rows: int | None = None, *, squares: int = 1
) -> Windows | None:
    """Return the network's maps of `images` (N, 3, H, W), to ask for images with other `squares` of `side` pixels in them.

    `squares` are how many of an image change. `rows` are at most asked for at once; if not given, N.

    None where it would not be faster, or not the same: other networks than a ResNet with SiLU in evaluation, whose first
    blocks `ops.models.winograd` computes; squares that with what they reach cover most of an image.
    """
    from ops.models.resnet import ResNet

    if not isinstance(model, ResNet) or model.stem.stride not in ((1, 1), (2, 2)) or model.stem.kernel_size != (3, 3):
        return None
    if model.stem.stride == (2, 2) and (images.shape[2] % 2 or images.shape[3] % 2):  # SAME pads other sides elsewhere
        return None
    if 2 * squares * side > min(images.shape[2:]):
        return None
    sides = images.shape[2] // model.stem.stride[0], images.shape[3] // model.stem.stride[0]
    blocks, image_bytes, count = blocks_of(model), 4 * math.prod(sides), 0
    copies = len(images) + (len(images) if rows is None else rows)
    left = MAPS_BYTES - FIRST * copies * model.stem.out_channels * image_bytes
    for block in blocks:
        left -= MAPS * copies * block.conv1.out_channels * image_bytes
        if left < 0 or not _is_local(block, len(images), sides):
            break
        count += 1
    if not count or not stem.fits(model, images):
        return None

    def maps(conv: nn.Conv2d, number: int) -> list[torch.Tensor]:
        shape = len(images), conv.out_channels, *sides
        return [torch.empty(shape, memory_format=torch.channels_last) for _ in range(number)]

    everywhere, kept = np.arange(len(images) * count_tiles(*sides)), maps(model.stem, FIRST)
    stem.map_tiles(model, images, everywhere, kept[0], kept[1], statistics(blocks[0].norm1))
    for number, block in enumerate(blocks[:count]):
        kept += maps(block.conv1, MAPS)
        _pass_block(model, number, kept, [everywhere] * 2)
    return Windows(model, kept)


def _is_local(block: "Block", count: int, sides: tuple[int, int]) -> bool:
    """Return whether the block keeps the size of its input, `count` images, in operations that are computed here."""
    return (
        block.conv1.stride == (1, 1)
        and (block.shortcut is None or block.shortcut.kernel_size == (1, 1))
        and winograd.pays(block.conv1, count, *sides)
        and block.conv2.out_channels % winograd.CHANNELS == 0
        and all(act.activate is F.silu and norm_silu.is_fixed(act.norm) for act in (block.norm1, block.norm2))
    )


def _pass_block(model: "ResNet", number: int, maps: Sequence[torch.Tensor], places: Sequence[np.ndarray]) -> None:
    """Compute the tiles of a block's maps that change, at `places` for its two convolutions.

    Of all `maps`, those of a block are its input and what the first norm and SiLU make of that, which are known; what the
    second convolution reads, the block's output, and what the next norm and SiLU make of it.
    """
    blocks = blocks_of(model)
    block, after = blocks[number], norms_after(blocks, model.norm)[number]
    x, first, second, out, active = maps[MAPS * number : MAPS * (number + 1) + FIRST]
    then = Finish("activated", active=second, norm=statistics(block.norm2))
    winograd.convolve_tiles(first, block.conv1.weight, second, places[0], then=then)
    beside = x if block.shortcut is None else block.shortcut(first)
    then = Finish("sum activated", beside, active, norm=statistics(after))
    winograd.convolve_tiles(second, block.conv2.weight, out, places[1], then=then)
