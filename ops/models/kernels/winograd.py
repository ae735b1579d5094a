"""Compiled transforms of Winograd's convolutions; `ops.models.winograd` puts them together.

Arrays are float32; an image batch (N, C, H, W) in channels_last is (N, H, W, C) here. A tile is a square of pixels and what
becomes of it, its points; pixels outside the image are 0, and what would be written there is lost. Every transform is one
of a row of numbers, taken of the columns of a square and then of its rows.

Stride 1 is F(4x4, 3x3) with the matrices B, G and A of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
Networks", section 4.3: 6 points for 4 outputs. In stride 2 every other pixel meets two of the three taps, and those between
them meet one: F(4, 2) with 5 points at 0, 1, -1, 2 and infinity for the former, and 4 plain products for the latter.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numba import njit, prange
from numba.extending import register_jitable

from ops.models.kernels.ahead import bring, parts_of
from ops.models.kernels.compiling import INNER, OPTIONS
from ops.models.kernels.finish import DISTANT, finish, write_finished
from ops.models.kernels.panels import panel
from ops.models.kernels.vectors import LANES, Pixels, Points, TileTransform, Vector, tile_function

Row = Sequence[Vector]
Groups = Sequence[Sequence[int]]
"""Of rows of a transformed square, that are computed together."""


def times_b(d: Row) -> Row:
    """Return B^T d of 6 pixels."""
    d0, d1, d2, d3, d4, d5 = d
    ones, more = d4.plus(-4.0, d2), d3.plus(-4.0, d1)
    twos, rest = d4 - d2, d3 - d1
    return [
        twos.plus(4.0, d0 - d2),
        ones + more,
        ones - more,
        twos.plus(2.0, rest),
        twos.plus(-2.0, rest),
        (d5 - d3).plus(-4.0, rest),
    ]


def times_g(w: Row) -> Row:
    """Return G w, 6 points, of 3 taps."""
    w0, w1, w2 = w
    ones, more = -1 / 6 * (w0 + w2), -1 / 6 * w1
    twos, rest = 1 / 24 * w0 + 1 / 6 * w2, 1 / 12 * w1
    return [0.25 * w0, ones + more, ones - more, twos + rest, twos - rest, w2]


def times_a(m: Row) -> Row:
    """Return A^T m, 4 outputs, of 6 points."""
    m0, m1, m2, m3, m4, m5 = m
    near, far, odd, wide = m1 + m2, m3 + m4, m1 - m2, m3 - m4
    return [m0 + near + far, odd + 2.0 * wide, near + 4.0 * far, odd + 8.0 * wide + m5]


def back_a(g: Row) -> Row:
    """Return A g, 6 points, of 4 outputs."""
    g0, g1, g2, g3 = g
    ones, more = g0 + g2, g1 + g3
    twos, rest = g0 + 4.0 * g2, 2.0 * g1 + 8.0 * g3
    return [g0, ones + more, ones - more, twos + rest, twos - rest, g3]


def back_g(v: Row) -> Row:
    """Return G^T v, 3 taps, of 6 points."""
    v0, v1, v2, v3, v4, v5 = v
    near, far = 1 / 6 * (v1 + v2), 1 / 6 * (v3 + v4)
    return [0.25 * (v0 + far) - near, 1 / 6 * (v2 - v1) + 1 / 12 * (v3 - v4), far - near + v5]


def five_points(d: Row) -> Row:
    """Return B^T d of F(4, 2) for 5 pixels."""
    d0, d1, d2, d3, d4 = d
    steep = d3 - d1
    return [2.0 * (d0 - d2) + steep, steep - d2 - d1, d3 - 3.0 * d2 + 2.0 * d1, steep, d4 - d2 - 2.0 * steep]


def four_outputs(m: Row) -> Row:
    """Return A^T m of F(4, 2) for 5 points."""
    m0, m1, m2, m3, m4 = m
    sums, differences = m1 + m2, m1 - m2
    return [m0 + sums + m3, differences + 2.0 * m3, sums + 4.0 * m3, differences + 8.0 * m3 + m4]


def strided_pixels(d: Row) -> Row:
    """Return the 9 points of 9 pixels: those of every other pixel, and the pixels between them."""
    return [*five_points(d[::2]), *d[1::2]]


def strided_taps(w: Row) -> Row:
    """Return the 9 points of 3 taps: the outer two are one kernel, the one between them is another."""
    w0, w1, w2 = w
    ones, more = 1 / 6 * w2, 1 / 6 * w0
    return [0.5 * w0, -0.5 * (w0 + w2), ones - more, more + 1 / 3 * w2, w2, w1, w1, w1, w1]


def strided_outputs(m: Row) -> Row:
    """Return the 4 outputs of 9 points."""
    return [even + odd for even, odd in zip(four_outputs(m[:5]), m[5:], strict=True)]


def led_back_pixels(g: Row) -> Row:
    """Return the 9 points of 5 outputs, from which the gradient of 8 pixels follows; the first lies before them."""
    return [*five_points(g), *g[1:]]


def led_back_outputs(m: Row) -> Row:
    """Return 8 pixels of 9 points."""
    return [number for pair in zip(four_outputs(m[:5]), m[5:], strict=True) for number in pair]


def _reading(one_way: Callable[[Row], Row], side: int, rows: Groups, turned: bool = False) -> TileTransform:
    """Return what puts a transform of `side` x `side` pixels, turned by 180 degrees if `turned`, into the points."""

    def put(pixels: Pixels, points: Points) -> None:
        order = range(side)[:: -1 if turned else 1]
        count = sum(map(len, rows))
        for row, numbers in _both_ways(one_way, lambda i, j: pixels.load(order[i], order[j]), side, rows):
            for column, number in enumerate(numbers):
                points.store(count * row + column, number)

    return TileTransform(side, put)


def _writing(one_way: Callable[[Row], Row], side: int, rows: Groups) -> TileTransform:
    """Return what puts a transform of `side` x `side` points into pixels."""

    def put(pixels: Pixels, points: Points) -> None:
        for row, numbers in _both_ways(one_way, lambda i, j: points.load(side * i + j), side, rows):
            for column, number in enumerate(numbers):
                pixels.store(row, column, number)

    return TileTransform(sum(map(len, rows)), put)


def _both_ways(
    one_way: Callable[[Row], Row], load: Callable[[int, int], Vector], side: int, rows: Groups
) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a square whose columns and then rows are transformed, and their numbers.

    For each group of `rows` the columns are loaded and transformed anew, of which the compiler leaves away what the group
    does not need: it would run out of registers with all of a square at once, and to wait for memory takes longer.
    """
    for group in rows:
        columns = [one_way([load(i, j) for i in range(side)]) for j in range(side)]
        for row in group:
            yield row, one_way([column[row] for column in columns])


KINDS = {
    "pixels": _reading(times_b, 6, [(0,), (1, 2), (3, 4), (5,)]),
    "outputs": _writing(times_a, 6, [range(4)]),
    "taps": _reading(times_g, 3, [range(6)]),
    "turned taps": _reading(times_g, 3, [range(6)], turned=True),
    "back outputs": _reading(back_a, 4, [range(6)]),
    "back taps": _writing(back_g, 6, [range(3)]),
    "strided pixels": _reading(strided_pixels, 9, [(0,), (1, 2), (3,), (4,), (5, 6), (7, 8)]),
    "strided outputs": _writing(strided_outputs, 9, [(0, 2), (1, 3)]),
    "strided taps": _reading(strided_taps, 3, [range(9)]),
    "turned strided taps": _reading(strided_taps, 3, [range(9)], turned=True),
    "led back pixels": _reading(led_back_pixels, 5, [(0, 1, 2), (3, 4), range(5, 9)]),
    "led back outputs": _writing(led_back_outputs, 9, [(0, 4), (2, 6), (1, 3, 5, 7)]),
}
NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
OUTPUTS = NUMBERS["outputs"]
write_outputs = write_finished(KINDS["outputs"].put)
some_channels = tile_function(list(KINDS.values()), LANES)


@njit(**OPTIONS)
def transform(kind, images, step, before, tiles):  # type: ignore[no-untyped-def]
    """Transform every tile of `images` (N, H, W, C) into `tiles` (T, points, C), or back; C is a multiple of LANES.

    `kind` is one of `NUMBERS`. Tiles are `step` apart, the first one begins `before` pixels before the image. One iteration
    is one row of tiles, so that results do not depend on the number of threads.
    """
    count, height, width, channels = images.shape
    down, across = (height + step - 1) // step, (width + step - 1) // step
    for strip in prange(count * down):
        image, top = images[strip // down], strip % down * step - before
        beyond = np.zeros(LANES, np.float32)
        for k in range(across):
            tile, left = tiles[strip * across + k], k * step - before
            for c in range(0, channels, LANES):
                some_channels(kind, image, top, left, beyond, tile[:, c:], c)


@njit(**OPTIONS)
def transform_taps(kind, taps, kernel):  # type: ignore[no-untyped-def]
    """Transform the `taps` (C, 3, 3, K) of each channel into `kernel` (points, K / width, C, width), as `convolve` reads it."""
    panels, channels, wide = kernel.shape[1:]
    for c in prange(channels):
        dark = np.zeros(LANES, np.float32)
        for k in range(0, panels * wide, LANES):
            some_channels(kind, taps[c], 0, 0, dark, kernel[:, k // wide, c, k % wide :], k)


@register_jitable
def working_memory(points, size, channels, made_step):  # type: ignore[no-untyped-def]
    """Return how many numbers `pass_tiles` needs for `size` tiles: points, and the pixels of one tile's outputs.

    `channels` are those of the input or the output, whichever are more.
    """
    return (points + 1) * size * channels + made_step * made_step * LANES


@njit(**INNER)
def pass_tiles(  # type: ignore[no-untyped-def]
    reading, read, read_step, before, kernel, writing, made, made_step, places, begin, size, following, rows, memory,
    finishing, beside, active, slopes, norm, distant,
):  # fmt: skip
    """Convolve `size` tiles, those at `places` from number `begin` on, as `convolve` says.

    `memory` is flat and as large as `working_memory` says for at least as many tiles. While the products keep the CPU busy,
    the tiles from number `following` on are brought into the cache, and the maps that are used in the end, of those that are
    `distant` (5,) bool: the input, and the maps as `DISTANT` has them.
    """
    points, panels, channels, wide = kernel.shape
    _, height, width, out = made.shape
    down, across = (height + made_step - 1) // made_step, (width + made_step - 1) // made_step
    side = made_step * made_step * LANES
    flat, inputs, outputs = kernel.reshape(-1), read.reshape(-1), made.reshape(-1)
    tiles, square = memory[:-side], memory[-side:].reshape(made_step, made_step, LANES)
    slots = tiles.reshape(points + 1, -1)  # one more than points: products move into the slot of the point before
    slot = slots.shape[1]
    room = slot // max(channels, out)
    dark = np.zeros(LANES, np.float32)  # read outside of images
    for t in range(size):
        image, tile = divmod(places[begin + t], down * across)
        top, left = tile // across * read_step - before, tile % across * read_step - before
        for c in range(0, channels, LANES):
            some_channels(reading, read[image], top, left, dark, slots[1:, c * room + t * LANES :], c)
    more = max(0, min(size, len(places) - following)) if distant[0] else 0
    (made_rows, made_parts), (read_rows, read_parts) = parts_of(made_step, out), parts_of(read_step, channels)
    for point in range(points):
        for part in range(point * size * made_parts // points, (point + 1) * size * made_parts // points):
            t, row = part // made_parts, part % made_parts * made_rows
            image, tile = divmod(places[begin + t], down * across)
            top, left = tile // across * made_step + row, tile % across * made_step
            for far, maps in zip(distant[1:], (outputs, beside, active, slopes)):  # noqa: B905 (numba knows no strict)
                if far:
                    bring(maps, image, top, left, made_rows, made_step, height, width, out)
        for part in range(point * more * read_parts // points, (point + 1) * more * read_parts // points):
            t, row = part // read_parts, part % read_parts * read_rows
            image, tile = divmod(places[following + t], down * across)
            top, left = tile // across * read_step + row, tile % across * read_step
            bring(inputs, image, top, left, read_rows, read_step, read.shape[1], read.shape[2], channels)
        for k in range(panels):
            weights = (point * panels + k) * channels * wide
            for t in range(0, size, rows):
                at, to = (point + 1) * slot + t * LANES, point * slot + k * wide * room + t * LANES
                panel(  # type: ignore[call-arg]
                    rows, wide // LANES, memory, at, room * LANES, flat, weights, channels // LANES, memory, to, room * LANES
                )  # fmt: skip
    for t in range(size):
        image, tile = divmod(places[begin + t], down * across)
        top, left = tile // across * made_step, tile % across * made_step
        if writing == OUTPUTS and top + made_step <= height and left + made_step <= width:
            for k in range(0, out, LANES):
                write_outputs(
                    finishing, slots[:, k * room + t * LANES :], outputs, beside, active, slopes, norm,
                    ((image * height + top) * width + left) * out, width, out, k,
                )  # fmt: skip
            continue
        for k in range(0, out, LANES):
            some_channels(writing, square, 0, 0, dark, slots[:, k * room + t * LANES :], 0)
            finish(  # type: ignore[call-arg]
                finishing, square.reshape(-1), LANES, made_step * LANES, outputs, beside, active, slopes, norm,
                ((image * height + top) * width + left) * out, min(made_step, height - top), min(made_step, width - left),
                width, out, k,
            )  # fmt: skip


@njit(**OPTIONS)
def convolve(  # type: ignore[no-untyped-def]
    reading, read, read_step, before, kernel, writing, made, made_step, places, size, rows, memory, finishing, beside, active,
    slopes, norm,
):  # fmt: skip
    """Convolve the tiles at `places` (T,) of images `read` (N, H, W, C), and put them into `made` (N, h, w, K).

    `reading` and `writing` are the transforms, by `NUMBERS`; tiles are `read_step` and `made_step` pixels apart, those that
    are read begin `before` pixels before the image. Tile `t` lies in image t // (tiles of an image), row by row. `kernel`
    (points, K / width, C, width) is the transformed kernel, `width` one or two vectors of outputs.

    `size` tiles, a multiple of `rows`, go through all three steps before the next ones, `rows` at a time in the products.
    What a thread works on is in its row of `memory` (threads, `working_memory`). No sum depends on how work is divided.

    `finish` says what becomes of the outputs, and of the flat maps `beside`, `active` and `slopes`, by the kind `finishing`.
    """
    workers = len(memory)
    for worker in prange(workers):
        for begin in range(worker * size, len(places), workers * size):
            pass_tiles(
                reading, read, read_step, before, kernel, writing, made, made_step, places, begin,
                min(size, len(places) - begin), begin + workers * size, rows, memory[worker], finishing, beside, active,
                slopes, norm, DISTANT[finishing],
            )  # fmt: skip
