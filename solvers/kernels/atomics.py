"""Atomic operations on int64 arrays in compiled functions, by which threads signal to each other without the GIL."""

from __future__ import annotations

from typing import Any

from numba import extending, types

_intrinsic: Any = extending.intrinsic
let_others_run = types.ExternalFunction("sched_yield", types.int32())
"""Give this thread's processor to another thread of the system that waits for one, if there is any."""


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [place])


@_intrinsic
def add_atomically(typing, array, place, value):  # type: ignore[no-untyped-def]
    """Add to an entry of an int64 array in one step for all threads, and return what it was before."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address = _address(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", address, args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@_intrinsic
def load_atomically(typing, array, place):  # type: ignore[no-untyped-def]
    """Return an entry of an int64 array, and see what other threads wrote before they changed it."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address = _address(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(address, "acquire", 8)

    return types.int64(array, types.intp), generate
