"""Convolutions one after another, some images at a time: what stands between them stays in a core's cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from ops.models.kernels.compiling import OPTIONS
from ops.models.kernels.finish import DISTANT
from ops.models.kernels.winograd import pass_tiles, working_memory


@intrinsic
def _pointer(_, address):  # type: ignore[no-untyped-def]
    """Return a pointer to what lies at an address."""

    def generate(context: Any, b: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        return b.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@njit(inline="always")
def numbers_at(address, shape):  # type: ignore[no-untyped-def]
    """Return the float32 numbers that lie at an address, as an array."""
    return carray(_pointer(address), shape, np.float32)  # type: ignore[call-arg]


@njit(**OPTIONS)
def convolve_chain(links, maps, kernels, norms, images, together, workers, places, memory):  # type: ignore[no-untyped-def]
    """Take `images` through convolutions, `together` at a time; each of `workers` threads takes every so manyth group.

    A row of `links` (L, 16) int64 is one convolution: the arguments `reading`, `read_step`, `before`, `writing`, `made_step`
    and `finishing` of `ops.models.kernels.winograd.convolve`; the shape of its kernel (4 numbers); height and width of the
    images that are read and of those that are made; and `size` and `rows` as there. Its `maps` (L, 5, 3) int64 (read, made,
    beside, active and slopes) are addresses, and how many bytes an image and a thread are apart; `kernels` and `norms` (L,)
    int64 are addresses, too. An address of 0 is a map that is not used. `places` (T,) int64 counts from 0 on, and `memory`
    (threads, M) is as much as the largest convolution needs.
    """
    for worker in prange(workers):
        for begin in range(worker * together, images, workers * together):
            count = min(together, images - begin)
            for link in range(len(links)):
                reading, read_step, before, writing, made_step, finishing = links[link, :6]
                points, panels, channels, wide, height, width, high, across, size, rows = links[link, 6:]
                out = panels * wide
                first = maps[link, :, 0] + begin * maps[link, :, 1] + worker * maps[link, :, 2]
                read = numbers_at(first[0], (count, height, width, channels))
                made = numbers_at(first[1], (count, high, across, out))
                whole = (count * high * across * out,)
                beside = numbers_at(first[2], whole)
                active = numbers_at(first[3], whole)
                slopes = numbers_at(first[4], whole)
                kernel = numbers_at(kernels[link], (points, panels, channels, wide))
                norm = numbers_at(norms[link], (3 * out,))
                tiles = count * ((high + made_step - 1) // made_step) * ((across + made_step - 1) // made_step)
                room = memory[worker, : working_memory(points, size, max(channels, out), made_step)]
                distant = DISTANT[finishing] & (maps[link, :, 1] != 0)
                for tile in range(0, tiles, size):
                    pass_tiles(
                        reading, read, read_step, before, kernel, writing, made, made_step, places[:tiles], tile,
                        min(size, tiles - tile), tile + size, rows, room, finishing, beside, active, slopes, norm, distant,
                    )  # fmt: skip
