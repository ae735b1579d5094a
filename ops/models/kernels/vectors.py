"""Vector instructions in compiled loops, where the compiler does not find them by itself.

numba's compiler proves for each loop that what it writes is not what it still reads, and gives up where a loop visits many
places: a tile of Winograd's algorithm visits 72. Here the instructions are written directly: arithmetic on a `Vector`
appends them to the function that is being compiled, as arithmetic on numbers would read.

numba keeps what is compiled until the file of the loop itself changes: after a change here, `make install` touches it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

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


class Vector:
    """Some float32 numbers of a function under construction; what is computed from them becomes part of it."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Self) -> Self:
        return type(self)(self.builder, self.builder.fadd(self.value, other.value, flags=FAST))

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.builder, self.builder.fsub(self.value, other.value, flags=FAST))

    def __rmul__(self, factor: float) -> Self:
        every = ir.Constant(self.value.type, [factor] * self.value.type.count)
        return type(self)(self.builder, self.builder.fmul(every, self.value, flags=FAST))


class Pixels:
    """A rectangle of pixels in an image whose channels are last, at one channel; those outside the image are `beyond`."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        memory: Sequence[ir.Value],
        beyond: ir.Value,
        shape: Sequence[ir.Value],
        corner: Sequence[ir.Value],
        lanes: int,
    ) -> None:
        self.builder, (self.memory, self.channel), self.beyond = builder, memory, beyond
        (self.height, self.width, self.channels), (self.top, self.left) = shape, corner
        self.type = ir.VectorType(NUMBER, lanes)

    def _pointer(self, i: int, j: int) -> ir.Value:
        b = self.builder
        row, column = (b.add(start, PLACE(step)) for start, step in ((self.top, i), (self.left, j)))
        shown = b.and_(b.icmp_unsigned("<", row, self.height), b.icmp_unsigned("<", column, self.width))
        place = b.mul(b.add(b.mul(row, self.width), column), self.channels)
        inside = b.gep(self.memory, [b.add(place, self.channel)])
        return b.bitcast(b.select(shown, inside, self.beyond), self.type.as_pointer())

    def load(self, i: int, j: int) -> Vector:
        """Return the numbers of the pixel in row `i` and column `j` of the rectangle."""
        return Vector(self.builder, self.builder.load(self._pointer(i, j), align=4))

    def store(self, i: int, j: int, vector: Vector) -> None:
        """Put `vector` into the pixel in row `i` and column `j` of the rectangle."""
        self.builder.store(vector.value, self._pointer(i, j), align=4)


class Points:
    """The points of a transformed tile, at one channel."""

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


def tile_function(transforms: Sequence[Callable[[Pixels, Points], None]], lanes: int) -> Any:
    """Return the `transforms` as one compiled function of one tile and `lanes` channels.

    It takes the number of the transform, an image (H, W, C), the tile's first row and column, which may lie outside,
    `beyond` (>= lanes,), which images show there, the tile's points (P, C) and the first channel.
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
                pixels = Pixels(builder, (image.data, channel), beyond.data, shape, (top, left), lanes)
                transform(pixels, Points(builder, builder.gep(points.data, [channel]), apart, lanes))
                builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(compiled)
