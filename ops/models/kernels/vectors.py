"""Vector instructions in compiled loops, where the compiler does not find them by itself.

numba's compiler proves for each loop that what it writes is not what it still reads, and gives up where a loop visits many
places: a tile of Winograd's algorithm visits 72. Here the instructions are written directly: arithmetic on a `Vector`
appends them to the function that is being compiled, as arithmetic on numbers would read.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
"""Numbers in a vector register of this CPU, at least."""
NUMBER, PLACE = ir.FloatType(), ir.IntType(64)
FAST = ("contract", "nsz")
"""As everywhere in compiled loops: sums keep their order."""
NUMBER_BYTES = 4


def fused(builder: ir.IRBuilder, kind: ir.VectorType) -> ir.Value:
    """Return the function that multiplies two vectors of a `kind` and adds a third, rounded once."""
    signature = ir.FunctionType(kind, [kind] * 3)
    return cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{kind.count}f32")


class Vector:
    """Some float32 numbers of a function under construction; what is computed from them becomes part of it."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Self | float) -> Self:
        return type(self)(self.builder, self.builder.fadd(self.value, self._of(other), flags=FAST))

    def __sub__(self, other: Self | float) -> Self:
        return type(self)(self.builder, self.builder.fsub(self.value, self._of(other), flags=FAST))

    def __mul__(self, other: Self | float) -> Self:
        return type(self)(self.builder, self.builder.fmul(self.value, self._of(other), flags=FAST))

    def __rmul__(self, factor: float) -> Self:
        return self * factor

    def __truediv__(self, other: Self | float) -> Self:
        return type(self)(self.builder, self.builder.fdiv(self.value, self._of(other), flags=FAST))

    def plus(self, factor: float, other: Self) -> Self:
        """Return self + factor other, rounded once."""
        b = self.builder
        return type(self)(b, b.call(fused(b, self.value.type), [self._of(factor), other.value, self.value]))

    def clamp(self, low: float, high: float) -> Self:
        """Return the numbers moved between `low` and `high`; a NaN stays one."""
        b, value = self.builder, self.value
        for bound, beyond in ((low, "<"), (high, ">")):
            limit = self._of(bound)
            value = b.select(b.fcmp_ordered(beyond, value, limit), limit, value)
        return type(self)(b, value)

    def _of(self, other: "Vector | float") -> ir.Value:
        return (
            other.value if isinstance(other, Vector) else ir.Constant(self.value.type, [other] * self.value.type.count)
        )


class Pixels:
    """A square of pixels in an image whose channels are last, at some channels; those outside the image are `beyond`.

    Where it is known that all are `inside`, nothing is asked for each pixel.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        memory: Sequence[ir.Value],
        beyond: ir.Value,
        shape: Sequence[ir.Value],
        corner: Sequence[ir.Value],
        lanes: int,
        inside: bool,
    ) -> None:
        self.builder, (self.memory, self.channel), self.beyond, self.inside = builder, memory, beyond, inside
        (self.height, self.width, self.channels), (self.top, self.left) = shape, corner
        self.type = ir.VectorType(NUMBER, lanes)

    def _pointer(self, i: int, j: int) -> ir.Value:
        b = self.builder
        row, column = (b.add(start, PLACE(step)) for start, step in ((self.top, i), (self.left, j)))
        line = b.gep(self.memory, [b.add(b.mul(b.mul(row, self.width), self.channels), self.channel)])
        place = b.gep(line, [b.mul(column, self.channels)])
        if not self.inside:
            shown = b.and_(b.icmp_unsigned("<", row, self.height), b.icmp_unsigned("<", column, self.width))
            place = b.select(shown, place, self.beyond)
        return b.bitcast(place, self.type.as_pointer())

    def load(self, i: int, j: int) -> Vector:
        """Return the numbers of the pixel in row `i` and column `j` of the square."""
        return Vector(self.builder, self.builder.load(self._pointer(i, j), align=4))

    def store(self, i: int, j: int, vector: Vector) -> None:
        """Put `vector` into the pixel in row `i` and column `j` of the square."""
        self.builder.store(vector.value, self._pointer(i, j), align=4)


class Points:
    """The points of a transformed tile, at some channels."""

    def __init__(self, builder: ir.IRBuilder, memory: ir.Value, apart: ir.Value, lanes: int) -> None:
        self.builder, self.memory, self.apart = builder, memory, apart
        self.type = ir.VectorType(NUMBER, lanes)

    def _pointer(self, point: int) -> ir.Value:
        there = self.builder.gep(self.memory, [self.builder.mul(PLACE(point), self.apart)])
        return self.builder.bitcast(there, self.type.as_pointer())

    def load(self, point: int) -> Vector:
        """Return the numbers of a point."""
        return Vector(self.builder, self.builder.load(self._pointer(point), align=4))

    def store(self, point: int, vector: Vector) -> None:
        """Put `vector` into a point."""
        self.builder.store(vector.value, self._pointer(point), align=4)


class TileTransform(NamedTuple):
    """What becomes of a square of pixels, or makes it."""

    side: int
    put: Callable[[Pixels, Points], None]


def tile_function(transforms: Sequence[TileTransform], lanes: int) -> Any:
    """Return the `transforms` as one compiled function of one tile and `lanes` channels.

    It takes the number of the transform, an image (H, W, C), the tile's first row and column, which may lie outside,
    `beyond` (>= lanes,), which images show there, the tile's points (P, >= lanes) and the image's first channel.
    """

    def compiled(_: Any, kind: Any, image: Any, top: Any, left: Any, beyond: Any, points: Any, channel: Any) -> Any:
        signature = types.void(types.intp, image, types.intp, types.intp, beyond, points, types.intp)

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
            kind, _, top, left, _, _, channel = values
            image, beyond, points = (
                context.make_array(sig.args[place])(context, builder, values[place]) for place in (1, 4, 5)
            )
            shape = cgutils.unpack_tuple(builder, image.shape)
            apart = builder.sdiv(cgutils.unpack_tuple(builder, points.strides)[0], PLACE(NUMBER_BYTES))
            after = builder.append_basic_block()
            choice = builder.switch(kind, after)
            for number, transform in enumerate(transforms):
                block = builder.append_basic_block()
                choice.add_case(PLACE(number), block)
                builder.position_at_end(block)
                within, across = builder.append_basic_block(), builder.append_basic_block()
                builder.cbranch(_is_inside(builder, shape, (top, left), transform.side), within, across)
                for case, inside in ((within, True), (across, False)):
                    builder.position_at_end(case)
                    pixels = Pixels(builder, (image.data, channel), beyond.data, shape, (top, left), lanes, inside)
                    transform.put(pixels, Points(builder, points.data, apart, lanes))
                    builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(compiled)


def _is_inside(b: ir.IRBuilder, shape: Sequence[ir.Value], corner: Sequence[ir.Value], side: int) -> ir.Value:
    """Return whether a square of `side` pixels with this corner lies in the image of this shape (H, W, C)."""
    found = ir.Constant(ir.IntType(1), 1)
    for first, size in zip(corner, shape[:2], strict=True):
        last = b.add(first, PLACE(side - 1))
        found = b.and_(found, b.and_(b.icmp_signed(">=", first, PLACE(0)), b.icmp_signed("<", last, size)))
    return found
