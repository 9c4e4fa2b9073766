"""Arrays at addresses that a table holds: a kernel reads any number of arrays of any length without a copy of them.

The owner of the table keeps the arrays alive. `view_at` is for kernels that know an array's sizes. `floats`, `integers`
and `indices` return arrays without a length: an index must be unsigned, for which Numba does not look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import extending, types
from numpy.typing import NDArray

_intrinsic: Any = extending.intrinsic


def _import_arrays() -> Any:
    """Return what generates code for arrays: it takes 20 ms to import, and kernels from the cache do without it."""
    from numba.np import arrayobj

    return arrayobj


def _array_at(dtype: Any) -> Callable[..., Any]:
    """Return the function of kernels `(row, place)` for the array of a dtype whose address is `row[place]`."""

    def read(typing: Any, row: Any, place: Any) -> Any:
        kind = types.Array(dtype, 1, "C")

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            arrays = _import_arrays()
            table = arrays.make_array(signature.args[0])(context, builder, args[0])
            address = builder.load(builder.gep(table.data, [args[1]]))
            data, size = context.get_data_type(dtype), context.get_constant(types.intp, dtype.bitwidth // 8)
            array, count = arrays.make_array(kind)(context, builder), context.get_constant(types.intp, 0)
            pointer = builder.inttoptr(address, data.as_pointer())
            arrays.populate_array(array, data=pointer, shape=[count], strides=[size], itemsize=size, meminfo=None)
            return array._getvalue()

        return kind(row, types.intp), generate

    return _intrinsic(read)  # type: ignore[no-any-return]


def view_at(dtype: Any, ndim: int) -> Any:
    """Return a function of kernels that returns the C-contiguous array of these sizes, after an address, that lies
    there.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.return_type)(context, builder)
        item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(dtype)))
        data, strides = builder.inttoptr(args[0], array.data.type), [item]
        for size in args[:1:-1]:
            strides.insert(0, builder.mul(strides[0], size))
        _import_arrays().populate_array(array, data=data, shape=args[1:], strides=strides, itemsize=item, meminfo=None)
        return array._getvalue()

    result = types.Array(dtype, ndim, "C")
    if ndim == 1:
        return _intrinsic(lambda typing, address, size: (result(types.intp, types.intp), generate))
    return _intrinsic(lambda typing, address, rows, columns: (result(types.intp, types.intp, types.intp), generate))


floats = _array_at(types.float32)
integers = _array_at(types.int32)
indices = _array_at(types.uint32)


def address(array: NDArray[Any] | None) -> int:
    """Return the address of a contiguous array's first entry; 0 for None and for no entries."""
    if array is None:
        return 0
    if not array.flags.c_contiguous:
        raise ValueError(f"array must be contiguous, got strides {array.strides}")
    return int(array.__array_interface__["data"][0]) if array.size else 0


def tabulate(rows: list[list[int | NDArray[Any]]]) -> NDArray[np.int64]:
    """Return a table of numbers and of the addresses of arrays, `(len(rows), columns) int64`."""
    return np.array([[address(one) if isinstance(one, np.ndarray) else one for one in row] for row in rows], np.int64)
