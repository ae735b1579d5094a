"""Arrays in compiled loops that are known by their address: as many as one likes, of any shape, in a table of numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ops.models.kernels.vectors import NUMBER_BYTES


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


@intrinsic
def copy_numbers(_, source, target, count):  # type: ignore[no-untyped-def]
    """Copy so many float32 numbers from one address to another."""
    signature = types.void(source, target, count)

    def generate(context: Any, b: ir.IRBuilder, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
        source, target = (b.inttoptr(address, cgutils.voidptr_t) for address in values[:2])
        cgutils.raw_memcpy(b, target, source, values[2], NUMBER_BYTES)
        return context.get_dummy_value()

    return signature, generate
