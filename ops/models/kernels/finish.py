"""What follows a convolution, done to its output while that is still in the cache.

A pass over maps that do not fit in the cache waits for memory. So what stands between two convolutions of a residual network,
where its norms do not learn, is done to some pixels as soon as they are there: the sum with what runs beside the convolution,
norm and SiLU, and in the other direction the product with their slope.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from ops.models.kernels.compiling import OPTIONS
from ops.models.kernels.norm_silu import DENOMINATOR, NUMERATOR
from ops.models.kernels.vectors import LANES, NUMBER, NUMBER_BYTES, PLACE, Points, Vector

VECTOR = ir.VectorType(NUMBER, LANES)


class Here(NamedTuple):
    """Some numbers of a convolution's output and of the maps beside it, and their channels' norm."""

    x: Vector
    load: Callable[[str], Vector]
    store: Callable[[str, Vector], None]
    norm: Sequence[Vector]
    """What it takes off, multiplies by and adds; nothing where no norm follows."""


class Kind(NamedTuple):
    """Something to do with the output, and which of the maps it reads and writes."""

    put: Callable[[Here], None]
    reads: Sequence[str] = ()
    writes: Sequence[str] = ("made",)
    has_norm: bool = False


def sigmoid(v: Vector) -> Vector:
    """Return what `ops.models.kernels.norm_silu.sigmoid` does, which says how."""
    t = (0.5 * v).clamp(-9.0, 9.0)
    return t * _polynomial(NUMERATOR, t * t) / _polynomial(DENOMINATOR, t * t) * 0.5 + 0.5


def _polynomial(coefficients: Sequence[np.float32], x: Vector) -> Vector:
    first, second, *rest = map(float, coefficients)
    total = x * first + second
    for coefficient in rest:
        total = x * total + coefficient
    return total


def _activate(here: Here, x: Vector, slopes: bool) -> None:
    """Put silu(norm(x)) into `active`, and its derivative by `x` into `slopes`, if those are wanted."""
    mean, scale, offset = here.norm
    v = (x - mean) * scale + offset
    s = sigmoid(v)
    active = v * s
    here.store("active", active)
    if slopes:
        here.store("slopes", (s + active - active * s) * scale)


def _activated(slopes: bool) -> Kind:
    writes = ("active", "slopes") if slopes else ("active",)
    return Kind(lambda here: _activate(here, here.x, slopes), writes=writes, has_norm=True)


def _sum_activated(slopes: bool) -> Kind:
    def put(here: Here) -> None:
        x = here.x + here.load("beside")
        here.store("made", x)
        _activate(here, x, slopes)

    return Kind(put, ("beside",), ("made", *_activated(slopes).writes), has_norm=True)


def _kept_activated(here: Here) -> None:
    here.store("made", here.x)
    _activate(here, here.x, slopes=False)


def _by_slopes(here: Here) -> None:
    here.store("made", here.x * here.load("slopes"))


def _by_slopes_and_sum(here: Here) -> None:
    here.store("made", here.x * here.load("slopes") + here.load("beside"))


def _sum_by_slopes(here: Here) -> None:
    here.store("made", (here.x + here.load("beside")) * here.load("slopes"))


KINDS = {
    "as it is": Kind(lambda here: here.store("made", here.x)),
    "activated": _activated(slopes=False),
    "activated, slopes": _activated(slopes=True),
    "kept, activated": Kind(_kept_activated, writes=("made", "active"), has_norm=True),
    "sum activated": _sum_activated(slopes=False),
    "sum activated, slopes": _sum_activated(slopes=True),
    "by slopes": Kind(_by_slopes, ("slopes",)),
    "by slopes and sum": Kind(_by_slopes_and_sum, ("slopes", "beside")),
    "sum by slopes": Kind(_sum_by_slopes, ("slopes", "beside")),
}
NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
MAPS = ("made", "beside", "active", "slopes")
STREAMED = ("slopes",)
"""Maps that are not read again before long: what is written of them goes past the cache, a line at a time. Another thread may
read them when this one has come to the end of its loop, which waits until they are in memory."""
DISTANT = np.array(
    [
        [True, *(name in kind.reads or (name in kind.writes and name not in STREAMED) for name in MAPS)]
        for kind in KINDS.values()
    ]
)
"""Whether to bring the convolution's input, and each of MAPS, into the cache ahead of their use, by the kind's number."""


@intrinsic
def finish(  # type: ignore[no-untyped-def]
    _, kind, output, apart, line, made, beside, active, slopes, norm, at, rows, pixels, width, channels, channel
):
    """Do what `kind`, of `NUMBERS`, says with LANES channels from `channel` on of `rows` by `pixels` pixels.

    All arrays are flat. In the convolution's `output` pixels are `apart` numbers from each other, and rows are `line`. In the
    maps, images are `width` pixels of `channels` numbers wide, and the first pixel begins at number `at`; maps that the kind
    does not use may have any size. `norm` (3 `channels`,) is what the norm takes off, multiplies by and adds.
    """
    places = types.intp
    signature = types.void(places, output, places, places, made, beside, active, slopes, norm, *([places] * 6))

    def generate(context: Any, b: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        def memory(number: int) -> ir.Value:
            return context.make_array(sig.args[number])(context, b, values[number]).data

        kind, output, apart, line = values[0], memory(1), *values[2:4]
        maps, norm = dict(zip(MAPS, map(memory, range(4, 8)), strict=True)), memory(8)
        at, rows, pixels, width, channels, channel = values[9:]
        for each, statistics in _each_kind(b, kind, norm, channel, channels):
            with cgutils.for_range(b, rows) as row, cgutils.for_range(b, pixels) as pixel:
                x = _load(b, output, b.add(b.mul(row.index, line), b.mul(pixel.index, apart)))
                place = b.add(b.mul(row.index, width), pixel.index)
                here = b.add(b.add(at, channel), b.mul(place, channels))
                each.put(_here(b, x, maps, here, statistics))
        return context.get_dummy_value()

    return signature, generate


def _each_kind(
    b: ir.IRBuilder, number: ir.Value, norm: ir.Value, channel: ir.Value, channels: ir.Value
) -> Iterator[tuple[Kind, Sequence[Vector]]]:
    """Choose one of KINDS by its number: yield each, and the norm's statistics, to write what is done then."""
    after = b.append_basic_block()
    choice = b.switch(number, after)
    for place, kind in enumerate(KINDS.values()):
        block = b.append_basic_block()
        choice.add_case(PLACE(place), block)
        b.position_at_end(block)
        begins = [b.add(channel, b.mul(channels, PLACE(part))) for part in range(3 * kind.has_norm)]
        yield kind, [_load(b, norm, begin) for begin in begins]
        b.branch(after)
    b.position_at_end(after)


def write_finished(put: Callable[[Any, Points], None]) -> Any:
    """Return what writes the pixels of a tile that `put` makes of its points, and finishes them, as one compiled function.

    It takes the number of the kind, the points (P, >= LANES), the flat maps and the norm, the number at which the first pixel
    begins, the maps' width in pixels and numbers, and the first channel, as `finish` does. The tile lies within the maps.
    """

    def compiled(  # type: ignore[no-untyped-def]
        _, kind, points, made, beside, active, slopes, norm, at, width, channels, channel
    ):
        signature = types.void(types.intp, points, made, beside, active, slopes, norm, *([types.intp] * 4))

        def generate(context: Any, b: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
            kind, *_ = values
            tile, *arrays = (context.make_array(sig.args[n])(context, b, values[n]) for n in range(1, 7))
            apart = b.sdiv(cgutils.unpack_tuple(b, tile.strides)[0], PLACE(NUMBER_BYTES))
            *maps, norm = (array.data for array in arrays)
            at, width, channels, channel = values[7:]
            for each, statistics in _each_kind(b, kind, norm, channel, channels):
                put(
                    _Finished(
                        b, dict(zip(MAPS, maps, strict=True)), b.add(at, channel), (width, channels), each, statistics
                    ),
                    Points(b, tile.data, apart, LANES),
                )
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(compiled)


class _Finished(NamedTuple):
    """The pixels of a tile, that are finished when they are stored."""

    builder: ir.IRBuilder
    maps: dict[str, ir.Value]
    first: ir.Value
    sizes: tuple[ir.Value, ir.Value]
    kind: Kind
    norm: Sequence[Vector]

    def store(self, i: int, j: int, vector: Vector) -> None:
        b, (width, channels) = self.builder, self.sizes
        row = b.add(self.first, b.mul(b.mul(width, PLACE(i)), channels))
        self.kind.put(_here(b, vector, self.maps, b.add(row, b.mul(channels, PLACE(j))), self.norm))


def _here(b: ir.IRBuilder, x: Vector, maps: dict[str, ir.Value], at: ir.Value, norm: Sequence[Vector]) -> Here:
    def load(name: str) -> Vector:
        return _load(b, maps[name], at)

    def store(name: str, vector: Vector) -> None:
        past = name in STREAMED
        instruction = b.store(vector.value, _pointer(b, maps[name], at), align=LANES * NUMBER_BYTES if past else 4)
        if past:
            instruction.set_metadata("nontemporal", b.module.add_metadata([ir.IntType(32)(1)]))

    return Here(x, load, store, norm)


def _load(b: ir.IRBuilder, memory: ir.Value, at: ir.Value) -> Vector:
    return Vector(b, b.load(_pointer(b, memory, at), align=4))


def _pointer(b: ir.IRBuilder, memory: ir.Value, at: ir.Value) -> ir.Value:
    return b.bitcast(b.gep(memory, [at]), VECTOR.as_pointer())


@njit(**OPTIONS)
def finish_all(kind, x, made, beside, active, slopes, norm, width, channels):  # type: ignore[no-untyped-def]
    """Do with all numbers of the convolution's output `x`, in rows of `width` pixels, what `finish` does with some."""
    line = width * channels
    for row in prange(len(x) // line):
        for channel in range(0, channels, LANES):
            finish(  # type: ignore[call-arg]
                kind, x[row * line + channel :], channels, line, made, beside, active, slopes, norm, row * line, 1, width,
                width, channels, channel,
            )  # fmt: skip
