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

from ops.models.kernels.ahead import append_prefetch
from ops.models.kernels.vectors import LANES, NUMBER, PLACE, fused
from ops.models.schemes import STEP

ROWS = 14 if LANES == 16 else 6
"""At most: with two vectors of outputs, what the registers hold (32 with AVX-512, else 16)."""
WIDTHS = (1, 2)
"""Vectors of outputs."""
LINES = 2 if LANES == 16 else 1
"""Of pixels in a panel of `pixel_panel`: with two vectors of outputs, what the registers hold."""
AHEAD = 1024
"""Numbers of a kernel between what is multiplied and what is brought into the cache: kernels that only the cache of all cores
holds would come too late. Beyond a kernel's end nothing is read: the CPU ignores what it cannot bring."""
VECTOR = ir.VectorType(NUMBER, LANES)


def _panel(
    b: ir.IRBuilder,
    places: Sequence[ir.Value],
    width: int,
    memory: Sequence[ir.Value],
    counts: Sequence[ir.Value],
    apart: Sequence[ir.Value],
) -> None:
    """Append the product of one panel, of as many rows as there are `places`, those of their numbers in a block.

    `memory` is where points, kernel and products begin. `counts` are how many blocks there are, and how many channels each
    has; `apart` says how far the points of two blocks are apart, the products of two vectors, and of two rows.
    """
    (points, kernel, products), (blocks, channels) = memory, counts
    points_apart, products_apart, rows_apart = apart
    multiply_add = fused(b, VECTOR)
    # the compiler moves what is allocated, filled and read only here into registers
    sums = [[cgutils.alloca_once(b, VECTOR) for _ in range(width)] for _ in places]
    for total in itertools.chain(*sums):
        b.store(ir.Constant(VECTOR, [0.0] * LANES), total)
    with cgutils.for_range(b, blocks) as block:
        here = b.gep(points, [b.mul(block.index, points_apart)])
        taps = b.gep(kernel, [b.mul(b.mul(block.index, channels), PLACE(width * LANES))])
        # not unrolled: the compiler would load ahead, and run out of registers
        with cgutils.for_range(b, channels) as channel:
            number = b.gep(here, [channel.index])
            tap = b.gep(taps, [b.mul(channel.index, PLACE(width * LANES))])
            weights = [_load(b, tap, vector * LANES) for vector in range(width)]
            for vector in range(width):
                append_prefetch(b, b.gep(tap, [PLACE(AHEAD + vector * LANES)]))
            for place, totals in zip(places, sums, strict=True):
                every = _everywhere(b, b.load(b.gep(number, [place])))
                for weight, total in zip(weights, totals, strict=True):
                    b.store(b.call(multiply_add, [every, weight, b.load(total)]), total)
    for vector in range(width):
        to = b.gep(products, [b.mul(products_apart, PLACE(vector))])
        for row, made in enumerate(sums):
            place = b.gep(to, [b.mul(rows_apart, PLACE(row))])
            b.store(b.load(made[vector]), b.bitcast(place, VECTOR.as_pointer()), align=4)


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
                places = [PLACE(row * LANES) for row in range(many)]
                apart = points_apart, products_apart, PLACE(LANES)
                _panel(builder, places, wide, memory, (blocks, PLACE(LANES)), apart)
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pixel_panel(  # type: ignore[no-untyped-def]
    _, width, pixels, at, line, apart, blocks, channels, blocks_apart, kernel, place, products, to, products_apart,
    rows_apart,
):  # fmt: skip
    """Put a panel of LINES lines of STEP pixels each and `width` (of WIDTHS) vectors of outputs into `products`.

    Arrays are flat. The first pixel's numbers are at `pixels[at]`, `blocks` times `channels` of them, `blocks_apart`; lines
    are `line` numbers apart, and pixels in them `apart`. From `kernel[place]` on, `width` LANES outputs for each of these
    numbers. Products are LANES numbers for each pixel and vector, from `products[to]` on: vectors are `products_apart`, and
    pixels `rows_apart`, one line after the other.
    """
    signature = types.void(types.intp, pixels, *([types.intp] * 6), kernel, types.intp, products, *([types.intp] * 3))

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        width, _, at, line, apart, blocks, channels, blocks_apart, _, place, _, to, products_apart, rows_apart = values
        memory = [
            builder.gep(context.make_array(sig.args[array])(context, builder, values[array]).data, [begin])
            for array, begin in ((1, at), (8, place), (10, to))
        ]
        after = builder.append_basic_block()
        choice = builder.switch(width, after)
        for wide in WIDTHS:
            block = builder.append_basic_block()
            choice.add_case(PLACE(wide), block)
            builder.position_at_end(block)
            places = [
                builder.add(builder.mul(line, PLACE(i)), builder.mul(apart, PLACE(j)))
                for i in range(LINES)
                for j in range(STEP)
            ]
            strides = blocks_apart, products_apart, rows_apart
            _panel(builder, places, wide, memory, (blocks, channels), strides)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return signature, generate
