"""Convolutions one after another: each for the whole batch, or all of them for some images at a time.

The former is what large kernels want, which have to come from memory for every group of images. In the latter, what stands
between the convolutions stays in a core's cache, and threads wait for each other at the end only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from ops.models import winograd
from ops.models.finish import AS_IT_IS, Finish
from ops.models.kernels.compiling import aligned, match_threads
from ops.models.schemes import count_tiles, transforms
from ops.models.transformed import transformed, transformed_bytes

if TYPE_CHECKING:
    from ops.models.resnet import Conv

KERNEL_BYTES = 2**22
"""Of a transformed kernel, at most, that groups of images go through: other threads read others meanwhile."""
GROUP_BYTES = 2**19
"""Of one map of a group of images that goes through a chain."""


class Layer(NamedTuple):
    """A convolution, and whether `winograd.pays` for the whole batch: an image's output does not depend on its group."""

    conv: "Conv"
    quick: bool

    @property
    def is_small(self) -> bool:
        """Return whether groups of images go through it: several such kernels stay in the cache."""
        return self.quick and transformed_bytes(self.conv) <= KERNEL_BYTES


class Link(NamedTuple):
    """What `layer` makes of the maps `read`, or the gradient that it leads `back`, put into the maps `made` by `then`.

    Maps are (N, C, H, W), channels_last.
    """

    layer: Layer
    read: torch.Tensor
    made: torch.Tensor
    then: Finish = AS_IT_IS
    back: bool = False


class Way(Protocol):
    """Where maps lie that stand between convolutions, and how these are computed."""

    def memory(self, name: str, channels: int, sides: tuple[int, int]) -> torch.Tensor:
        """Return memory for maps; for the same name, the same again."""

    def run(self, links: Sequence[Link]) -> None:
        """Compute the convolutions in their order."""


class Whole:
    """The way of the whole batch of `images`."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.maps: dict[str, torch.Tensor] = {}

    def memory(self, name: str, channels: int, sides: tuple[int, int]) -> torch.Tensor:
        """Return memory for maps of all images."""
        return _memory(self.maps, name, (self.images, channels, *sides))

    def run(self, links: Sequence[Link]) -> None:
        """Compute one convolution after the other."""
        for layer, read, made, then, back in links:
            if layer.quick:
                winograd.convolve_into(made, read, layer.conv.weight, layer.conv.stride[0], back, then)
            else:
                direct = layer.conv.led_back(read, *made.shape[2:]) if back else layer.conv(read)
                then.whole(direct.contiguous(memory_format=torch.channels_last), made)


class Groups:
    """The way of groups of `images`, so many that one map of theirs, `image_bytes` for an image, has GROUP_BYTES."""

    def __init__(self, images: int, image_bytes: int) -> None:
        self.images, self.threads = images, match_threads()
        rounds = -(-images // (self.threads * max(1, GROUP_BYTES // image_bytes)))
        self.together = -(-images // (self.threads * rounds))
        self.maps: dict[str, torch.Tensor] = {}

    def memory(self, name: str, channels: int, sides: tuple[int, int]) -> torch.Tensor:
        """Return memory for maps of the group of each thread."""
        return _memory(self.maps, name, (self.threads * self.together, channels, *sides))

    def run(self, links: Sequence[Link]) -> None:
        """Compute all convolutions for one group of images after another."""
        from ops.models.kernels import chain
        from ops.models.kernels import winograd as compiled
        from ops.models.kernels.finish import NUMBERS
        from ops.models.kernels.panels import ROWS

        own = {each.data_ptr() for each in self.maps.values()}
        rows, maps, kernels, norms, most, room = [], [], list[np.ndarray](), [], 0, 0
        for layer, read, made, then, back in links:
            then.check()
            stride = layer.conv.stride[0]
            begin, end = transforms(stride, back)
            kernel = transformed(layer.conv.weight, stride, back)
            tiles = self.together * count_tiles(made.shape[2], made.shape[3], end.step)
            size, panel = winograd.portions(tiles, ROWS, 1)
            numbers = compiled.NUMBERS[begin.kind], begin.step, begin.before, compiled.NUMBERS[end.kind], end.step
            rows.append((*numbers, NUMBERS[then.kind], *kernel.shape, *read.shape[2:], *made.shape[2:], size, panel))
            maps.append([self._map(each, own) for each in (read, made, then.beside, then.active, then.slopes)])
            kernels.append(kernel)
            norms.append(0 if then.norm is None else then.norm.ctypes.data)
            needed = compiled.working_memory(len(kernel), size, max(read.shape[1], made.shape[1]), end.step)
            most, room = max(most, tiles), max(room, needed)
        addresses = [each.ctypes.data for each in kernels]
        table = [np.array(each, np.int64) for each in (rows, maps, addresses, norms)]
        memory = aligned(self.threads, room)
        chain.convolve_chain(*table, self.images, self.together, self.threads, np.arange(most), memory)

    def _map(self, maps: torch.Tensor | None, own: set[int]) -> tuple[int, int, int]:
        """Return where the maps lie, and how many bytes lie between those of two images, and of two threads."""
        if maps is None:
            return 0, 0, 0
        address, image = maps.data_ptr(), maps.nbytes // len(maps)
        return (address, 0, self.together * image) if address in own else (address, image, 0)


def _memory(maps: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name not in maps:
        maps[name] = torch.empty(shape, memory_format=torch.channels_last)
    assert maps[name].shape == shape, name
    return maps[name]
