"""What is brought into the cache ahead of its use, while the CPU computes."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 16
"""Numbers in a line of the cache."""
LINES = 16
"""To have brought into the cache at once: a CPU that waits for many forgets more."""


def append_prefetch(b: ir.IRBuilder, number: ir.Value) -> None:
    """Append that the CPU brings what the pointer `number` points to into its cache, without waiting for it."""
    count, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, count, count, count])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
    b.call(function, [b.bitcast(number, byte), count(0), count(3), count(1)])


@intrinsic
def prefetch(_, memory, at):  # type: ignore[no-untyped-def]
    """Have the CPU bring what lies at number `at` of `memory` into its cache, without waiting for it."""
    signature = types.void(memory, types.intp)

    def generate(context: Any, b: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        append_prefetch(b, b.gep(context.make_array(sig.args[0])(context, b, values[0]).data, [values[1]]))
        return context.get_dummy_value()

    return signature, generate


@njit(inline="always")
def bring(memory, image, top, left, rows, side, height, width, channels):  # type: ignore[no-untyped-def]
    """Have `rows` of `side` pixels of flat images brought into the cache."""
    first, last = max(left, 0), min(left + side, width)
    for row in range(max(top, 0), min(top + rows, height)):
        start = (image * height + row) * width
        for number in range((start + first) * channels, (start + last) * channels, LINE):
            prefetch(memory, number)  # type: ignore[call-arg]


@njit(inline="always")
def parts_of(step, channels):  # type: ignore[no-untyped-def]
    """Return how many rows of a tile of `step` pixels to bring at once, and how many times."""
    rows = min(step, max(1, LINES * LINE // (step * channels)))
    return rows, (step + rows - 1) // rows
