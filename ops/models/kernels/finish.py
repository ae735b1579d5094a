"""What follows a convolution, done to its output while that is still in the cache.

A pass over maps that do not fit in the cache waits for memory. So what stands between two convolutions of a residual network,
where its norms do not learn, is done to some pixels as soon as they are there: the sum with what runs beside the convolution,
norm and SiLU, and in the other direction the product with their slope.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from ops.models.kernels.compiling import OPTIONS
from ops.models.kernels.norm_silu import DENOMINATOR, NUMERATOR
from ops.models.kernels.vectors import LANES, NUMBER, PLACE, Vector

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
    "sum activated": _sum_activated(slopes=False),
    "sum activated, slopes": _sum_activated(slopes=True),
    "by slopes": Kind(_by_slopes, ("slopes",)),
    "by slopes and sum": Kind(_by_slopes_and_sum, ("slopes", "beside")),
    "sum by slopes": Kind(_sum_by_slopes, ("slopes", "beside")),
}
NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
MAPS = ("made", "beside", "active", "slopes")
LINE = 16
"""Numbers in a line of the cache."""
USED = np.array([[name in kind.reads or name in kind.writes for name in MAPS] for kind in KINDS.values()])
"""Of MAPS, by the kind's number."""


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
        after = b.append_basic_block()
        choice = b.switch(kind, after)
        for number, each in enumerate(KINDS.values()):
            block = b.append_basic_block()
            choice.add_case(PLACE(number), block)
            b.position_at_end(block)
            begins = [b.add(channel, b.mul(channels, PLACE(part))) for part in range(3 * each.has_norm)]
            statistics = [_load(b, norm, begin) for begin in begins]
            with cgutils.for_range(b, rows) as row, cgutils.for_range(b, pixels) as pixel:
                x = _load(b, output, b.add(b.mul(row.index, line), b.mul(pixel.index, apart)))
                place = b.add(b.mul(row.index, width), pixel.index)
                here = b.add(b.add(at, channel), b.mul(place, channels))
                each.put(_here(b, x, maps, here, statistics))
            b.branch(after)
        b.position_at_end(after)
        return context.get_dummy_value()

    return signature, generate


def _here(b: ir.IRBuilder, x: Vector, maps: dict[str, ir.Value], at: ir.Value, norm: Sequence[Vector]) -> Here:
    def load(name: str) -> Vector:
        return _load(b, maps[name], at)

    def store(name: str, vector: Vector) -> None:
        b.store(vector.value, _pointer(b, maps[name], at), align=4)

    return Here(x, load, store, norm)


def _load(b: ir.IRBuilder, memory: ir.Value, at: ir.Value) -> Vector:
    return Vector(b, b.load(_pointer(b, memory, at), align=4))


def _pointer(b: ir.IRBuilder, memory: ir.Value, at: ir.Value) -> ir.Value:
    return b.bitcast(b.gep(memory, [at]), VECTOR.as_pointer())


@intrinsic
def prefetch(_, memory, at):  # type: ignore[no-untyped-def]
    """Have the CPU bring what lies at number `at` of `memory` into its cache, without waiting for it."""
    signature = types.void(memory, types.intp)

    def generate(context: Any, b: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
        data = context.make_array(sig.args[0])(context, b, values[0]).data
        b.call(function, [b.bitcast(b.gep(data, [values[1]]), byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return signature, generate


@njit(inline="always")
def bring(memory, image, top, left, side, height, width, channels):  # type: ignore[no-untyped-def]
    """Have a square of pixels of flat images brought into the cache."""
    first, last = max(left, 0), min(left + side, width)
    for row in range(max(top, 0), min(top + side, height)):
        start = (image * height + row) * width
        for number in range((start + first) * channels, (start + last) * channels, LINE):
            prefetch(memory, number)  # type: ignore[call-arg]


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
