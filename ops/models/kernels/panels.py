"""The product of matrices in the middle of Winograd's algorithm: a panel of sums that stays in registers.

For each point, tiles times channels meet channels times outputs. A panel is `rows` tiles by one or two vectors of outputs;
it goes through all channels with its sums in registers, which is what keeps a CPU at its peak. Sums run over channels in
their order, so that a sum does not depend on what else is computed.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ops.models.kernels.vectors import LANES, NUMBER, PLACE, fused

ROWS = 14 if LANES == 16 else 6
"""At most: with two vectors of outputs, what the registers hold (32 with AVX-512, else 16)."""
WIDTHS = (1, 2)
"""Vectors of outputs."""
VECTOR = ir.VectorType(NUMBER, LANES)


def _panel(b: ir.IRBuilder, rows: int, width: int, memory: Sequence[ir.Value], shape: Sequence[ir.Value]) -> None:
    """Append the product of one panel; see `panel`."""
    (points, kernel, products), (blocks, points_apart, products_apart) = memory, shape
    multiply_add = fused(b, VECTOR)
    # the compiler moves what is allocated, filled and read only here into registers
    sums = [[cgutils.alloca_once(b, VECTOR) for _ in range(width)] for _ in range(rows)]
    for total in itertools.chain(*sums):
        b.store(ir.Constant(VECTOR, [0.0] * LANES), total)
    with cgutils.for_range(b, blocks) as block:
        here = b.gep(points, [b.mul(block.index, points_apart)])
        taps = b.gep(kernel, [b.mul(block.index, PLACE(LANES * width * LANES))])
        # not unrolled: the compiler would load ahead, and run out of registers
        with cgutils.for_range(b, PLACE(LANES)) as channel:
            number = b.gep(here, [channel.index])
            tap = b.gep(taps, [b.mul(channel.index, PLACE(width * LANES))])
            weights = [_load(b, tap, vector * LANES) for vector in range(width)]
            for row in range(rows):
                every = _everywhere(b, b.load(b.gep(number, [PLACE(row * LANES)])))
                for weight, total in zip(weights, sums[row], strict=True):
                    b.store(b.call(multiply_add, [every, weight, b.load(total)]), total)
    for vector in range(width):
        to = b.gep(products, [b.mul(products_apart, PLACE(vector))])
        for row in range(rows):
            place = b.gep(to, [PLACE(row * LANES)])
            b.store(b.load(sums[row][vector]), b.bitcast(place, VECTOR.as_pointer()), align=4)


def _load(b: ir.IRBuilder, memory: ir.Value, after: int) -> ir.Value:
    return b.load(b.bitcast(b.gep(memory, [PLACE(after)]), VECTOR.as_pointer()), align=4)


def _everywhere(b: ir.IRBuilder, number: ir.Value) -> ir.Value:
    nothing, index = ir.Constant(VECTOR, ir.Undefined), ir.IntType(32)
    first = b.insert_element(nothing, number, index(0))
    return b.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))


@intrinsic
def panel(  # type: ignore[no-untyped-def]
    _, rows, width, points, at, points_apart, kernel, place, blocks, products, to, products_apart
):
    """Put a panel of `rows` (1 to ROWS) tiles and `width` (of WIDTHS) vectors of outputs into `products`.

    Arrays are flat, and numbers come LANES at a time: those of `rows` tiles from `points[at]` on, and of the same tiles'
    next LANES channels `points_apart` numbers later, `blocks` times; and so the outputs from `products[to]` on. From
    `kernel[place]` on, `width` LANES outputs for each channel.
    """
    signature = types.void(
        types.intp, types.intp, points, types.intp, types.intp, kernel, types.intp, types.intp, products, types.intp,
        types.intp,
    )  # fmt: skip

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        rows, width, _, at, points_apart, _, place, blocks, _, to, products_apart = values
        memory = [
            builder.gep(context.make_array(sig.args[array])(context, builder, values[array]).data, [begin])
            for array, begin in ((2, at), (5, place), (8, to))
        ]
        after = builder.append_basic_block()
        choice = builder.switch(builder.add(rows, builder.mul(width, PLACE(ROWS))), after)
        for many in range(1, ROWS + 1):
            for wide in WIDTHS:
                block = builder.append_basic_block()
                choice.add_case(PLACE(many + wide * ROWS), block)
                builder.position_at_end(block)
                _panel(builder, many, wide, memory, (blocks, points_apart, products_apart))
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return signature, generate
