"""Requests for cache lines ahead of their use, for kernels that compute on one plane while the next is on its way.

A pass that computes for long on planes in a core's cache leaves the memory idle meanwhile: the processor itself looks
ahead only along what is being read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_item_pointer
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from relaxon.solvers.kernels.compiled import part

array_struct: Any = make_array
item_pointer: Any = get_item_pointer
SINGLES = 16
"""float32 values in a cache line of 64 bytes."""
BYTES = 64
"""Codes of one byte in a cache line."""
FIRST_CACHE, SECOND_CACHE = 3, 2
"""The localities of `llvm.prefetch`."""


def _make_request(write: bool) -> Any:
    """Return the function `(planes, p, cell)` for kernels that asks for a cache line, to write or to read."""

    @intrinsic
    def request(context, planes, p, cell):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind = signature.args[0]
            struct = array_struct(kind)(context, builder, args[0])
            entry = item_pointer(context, builder, kind, struct, list(args[1:]), wraparound=False)
            pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            form = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            call = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), form)
            locality = FIRST_CACHE if write else SECOND_CACHE
            builder.call(call, [builder.bitcast(entry, pointer), *map(number, (int(write), locality, 1))])
            return context.get_dummy_value()

        return types.void(planes, types.uint64, types.uint64), generate

    return request


request_line = _make_request(write=False)
request_line_to_write = _make_request(write=True)


@part
def request_cells(planes, p, first, count, line):  # type: ignore[no-untyped-def]
    """Ask for `count` cells from `first` on of plane `p`, if there is one; `line` of them lie in a cache line."""
    if 0 <= p < planes.shape[0]:
        for cell in range(0, count, line):
            request_line(planes, np.uint64(p), np.uint64(first + cell))


@part
def request_cells_to_write(planes, p, first, count, line):  # type: ignore[no-untyped-def]
    """Ask for cells, as `request_cells`, that will be written to."""
    if 0 <= p < planes.shape[0]:
        for cell in range(0, count, line):
            request_line_to_write(planes, np.uint64(p), np.uint64(first + cell))
