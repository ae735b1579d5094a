"""Convolutions one after another: each for the whole batch, or all of them for some images at a time.

The former is what large kernels want, which have to come from memory for every group of images. In the latter, what stands
between the convolutions stays in a core's cache, and threads wait for each other at the end only.
"""

import itertools
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from ops.models import winograd
from ops.models.finish import AS_IT_IS, Finish
from ops.models.kernels.compiling import aligned, match_threads
from ops.models.schemes import count_tiles, transforms
from ops.models.transformed import is_kept, made_once, transformed, transformed_bytes

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

    def maps(self) -> tuple[torch.Tensor | None, ...]:
        """Return all maps, in the order of `ops.models.kernels.chain.convolve_chain`."""
        return self.read, self.made, self.then.beside, self.then.active, self.then.slopes


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
        from ops.models.kernels import chain

        for quick, some in itertools.groupby(links, key=lambda link: link.layer.quick):
            if quick:
                table = _table(together := list(some), self.images, match_threads())
                maps = np.array([[_placed(each) for each in link.maps()] for link in together], np.int64)
                chain.convolve_each(*table.numbers(maps), self.images, *table.memory())
                continue
            for layer, read, made, then, back in some:
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

        table = _table(links, self.together, self.threads, group=True)
        own = {each.data_ptr() for each in self.maps.values()}
        maps = np.array([[_placed(each, self.together, own) for each in link.maps()] for link in links], np.int64)
        chain.convolve_chain(*table.numbers(maps), self.images, self.together, *table.memory())


def _placed(maps: torch.Tensor | None, together: int = 0, own: Container[int] = ()) -> tuple[int, int, int]:
    """Return where the maps lie, and how many bytes lie between those of two images, and of two threads.

    Maps at the addresses in `own` are of `together` images for each thread.
    """
    if maps is None:
        return 0, 0, 0
    address, image = maps.data_ptr(), maps.nbytes // len(maps)
    return (address, 0, together * image) if address in own else (address, image, 0)


class _Table(NamedTuple):
    """What compiled loops are told of some links, but for where maps lie."""

    rows: np.ndarray
    kernels: np.ndarray
    norms: np.ndarray
    tiles: int
    """Of one of the maps that are made, at most."""
    threads: int
    room: int
    """Numbers that a thread works on."""
    arrays: list[np.ndarray]
    """That the addresses are of."""
    nbytes: int
    """Of kernels that nobody else keeps."""

    def numbers(self, maps: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return `links`, `maps`, `kernels` and `norms`, as `ops.models.kernels.chain` has them."""
        return self.rows, maps, self.kernels, self.norms

    def memory(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Return `workers`, `places` and `memory`."""
        return self.threads, np.arange(self.tiles), aligned(self.threads, self.room)


def _table(links: Sequence[Link], images: int, threads: int, group: bool = False) -> _Table:
    """Return the table of convolutions of so many images at once: a `group` that a thread has for itself, or all of them."""
    for link in links:
        link.then.check()
    key = [
        (link.back, link.then.kind, id(link.then.norm), *link.read.shape[1:], *link.made.shape[1:]) for link in links
    ]
    weights = [link.layer.conv.weight for link in links]
    name = images, threads, group, *key, *(weight.data_ptr() for weight in weights)
    return made_once(weights, name, lambda: _described(links, images, threads, group))


def _described(links: Sequence[Link], images: int, threads: int, group: bool) -> _Table:
    from ops.models.kernels import winograd as compiled
    from ops.models.kernels.finish import NUMBERS

    rows, kernels, norms, most, room = [], list[np.ndarray](), list[np.ndarray | None](), 0, 0
    for layer, read, made, then, back in links:
        stride = layer.conv.stride[0]
        begin, end = transforms(stride, back)
        kernel = transformed(layer.conv.weight, stride, back)
        tiles = images * count_tiles(made.shape[2], made.shape[3], end.step)
        size, panel = winograd.portions(tiles, winograd.together(kernel), 1 if group else threads)
        numbers = compiled.NUMBERS[begin.kind], begin.step, begin.before, compiled.NUMBERS[end.kind], end.step
        rows.append((*numbers, NUMBERS[then.kind], *kernel.shape, *read.shape[2:], *made.shape[2:], size, panel))
        kernels.append(kernel)
        norms.append(then.norm)
        needed = compiled.working_memory(len(kernel), size, max(read.shape[1], made.shape[1]), end.step)
        most, room = max(most, tiles), max(room, needed)
    return _Table(
        rows=np.array(rows, np.int64),
        kernels=_addresses(kernels),
        norms=_addresses(norms),
        tiles=most,
        threads=threads,
        room=room,
        arrays=[*kernels, *(each for each in norms if each is not None)],
        nbytes=sum(each.nbytes for each in kernels if not is_kept(each)),
    )


def _addresses(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.array([0 if each is None else each.ctypes.data for each in arrays], np.int64)


def _memory(maps: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name not in maps:
        maps[name] = torch.empty(shape, memory_format=torch.channels_last)
    assert maps[name].shape == shape, name
    return maps[name]
