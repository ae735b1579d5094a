"""Convolutions one after another; some images at a time, what stands between them stays in a core's cache."""

import numpy as np
from numba import njit, prange

from ops.models.kernels.addresses import numbers_at
from ops.models.kernels.compiling import INNER, OPTIONS
from ops.models.kernels.finish import DISTANT
from ops.models.kernels.winograd import pass_tiles, working_memory


@njit(**INNER)
def pass_link(link, maps, kernel, norm, count, begin, worker, first, step, places, memory):  # type: ignore[no-untyped-def]
    """Take `count` images from number `begin` on through one convolution, every so manyth group of its tiles.

    The arguments are those of `convolve_chain`, for this convolution: of its tiles those from number `first` on, and `step`
    further on, and so on.
    """
    reading, read_step, before, writing, made_step, finishing = link[:6]
    points, panels, channels, wide, height, width, high, across, size, rows = link[6:]
    out = panels * wide
    # a loop's own counter has no sign, and with it sums of addresses would be floats
    addresses = maps[:, 0] + np.int64(begin) * maps[:, 1] + np.int64(worker) * maps[:, 2]
    read = numbers_at(addresses[0], (count, height, width, channels))
    made = numbers_at(addresses[1], (count, high, across, out))
    whole = (count * high * across * out,)
    beside = numbers_at(addresses[2], whole)
    active = numbers_at(addresses[3], whole)
    slopes = numbers_at(addresses[4], whole)
    taps = numbers_at(kernel, (points, panels, channels, wide))
    statistics = numbers_at(norm, (3 * out,))
    tiles = count * ((high + made_step - 1) // made_step) * ((across + made_step - 1) // made_step)
    room = memory[: working_memory(points, size, max(channels, out), made_step)]
    distant = DISTANT[finishing] & (maps[:, 1] != 0)
    for tile in range(first, tiles, step):
        pass_tiles(
            reading, read, read_step, before, taps, writing, made, made_step, places[:tiles], tile, min(size, tiles - tile),
            tile + step, rows, room, finishing, beside, active, slopes, statistics, distant,
        )  # fmt: skip


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
            for link in range(len(links)):
                pass_link(
                    links[link], maps[link], kernels[link], norms[link], min(together, images - begin), begin, worker, 0,
                    links[link, 14], places, memory[worker],
                )  # fmt: skip


@njit(**OPTIONS)
def convolve_each(links, maps, kernels, norms, images, workers, places, memory):  # type: ignore[no-untyped-def]
    """Take all `images` through one convolution after the other, the tiles of each divided among `workers` threads.

    The arguments are those of `convolve_chain`; maps of several images have no parts for threads.
    """
    for link in range(len(links)):
        size = links[link, 14]
        for worker in prange(workers):
            pass_link(
                links[link], maps[link], kernels[link], norms[link], images, 0, 0, worker * size, workers * size, places,
                memory[worker],
            )  # fmt: skip
