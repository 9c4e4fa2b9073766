"""Vectors of eight numbers as values in kernels, for the wide registers of a processor.

Numba does not vectorise short loops of a fixed length, as its superword-level vectoriser is off. Here a row of an array
`(n, 8)`, C-contiguous, float32 or float64, is loaded, computed with and stored as one value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic

WIDTH = 8
CONTRACT = ("contract",)
"""Fast-math flags: products and sums may be fused, as in the other kernels."""


class Lanes(types.Type):
    """The Numba type of eight numbers of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_default(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _vector(fe_type.dtype))  # type: ignore[no-untyped-call]


def _vector(dtype: Any) -> Any:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), WIDTH)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any, index: Any) -> Any:
    """Return a pointer to a row as a vector."""
    struct = context.make_array(array_type)(context, builder, array)
    place = builder.mul(context.cast(builder, index, index_type, types.intp), ir.Constant(ir.IntType(64), WIDTH))
    return builder.bitcast(builder.gep(struct.data, [place]), _vector(array_type.dtype).as_pointer())


def _splat(context: Any, builder: Any, kind: Any, value_type: Any, value: Any) -> Any:
    """Return a vector with all entries equal to a number, rounded to the vector's dtype."""
    own = context.cast(builder, value, value_type, kind.dtype)
    vector = _vector(kind.dtype)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), own, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _instruction(function: Callable[..., Any]) -> Any:
    """Return the intrinsic of a function; its callers pass no typing context."""
    return intrinsic(function)


@_instruction
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Return row `index` of an array `(n, 8)`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, index), generate


@_instruction
def store(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write a value to row `index` of an array `(n, 8)` of its dtype."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, lanes), generate


@_instruction
def multiply(typingctx: Any, lanes: Any, factor: Any) -> Any:
    """Return a value times a number, or the entrywise product of two values."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        other = args[1]
        if not isinstance(factor, Lanes):
            other = _splat(context, builder, lanes, signature.args[1], other)
        return builder.fmul(args[0], other, flags=CONTRACT)

    return lanes(lanes, factor), generate


@_instruction
def add_scaled(typingctx: Any, lanes: Any, factor: Any, other: Any) -> Any:
    """Return `lanes + factor·other`, where `factor` is a number or a value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scale = args[1]
        if not isinstance(factor, Lanes):
            scale = _splat(context, builder, lanes, signature.args[1], scale)
        return builder.fadd(args[0], builder.fmul(scale, args[2], flags=CONTRACT), flags=CONTRACT)

    return lanes(lanes, factor, other), generate


@_instruction
def widen(typingctx: Any, lanes: Any) -> Any:
    """Return a float32 value in float64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(args[0], _vector(types.float64))

    return Lanes(types.float64)(lanes), generate


@_instruction
def narrow(typingctx: Any, lanes: Any) -> Any:
    """Return a float64 value rounded to float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fptrunc(args[0], _vector(types.float32))

    return Lanes(types.float32)(lanes), generate


@_instruction
def zeros(typingctx: Any, array: Any) -> Any:
    """Return a value of zeros of an array's dtype."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_vector(array.dtype), None)

    return Lanes(array.dtype)(array), generate


@_instruction
def gather(typingctx: Any, x: Any, places: Any, index: Any) -> Any:
    """Return the entries of `x` `(m,)` at the places in row `index` of `places`, integers `(n, 8)`.

    They are loaded one by one: a processor's own instruction for that is no faster, and on some is slow.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, at = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(signature.args[:2], args[:2], strict=True)
        )
        wide = ir.IntType(64)
        first = builder.mul(context.cast(builder, args[2], signature.args[2], types.intp), ir.Constant(wide, WIDTH))
        lanes = ir.Constant(_vector(x.dtype), ir.Undefined)
        for lane in range(WIDTH):
            place = builder.load(builder.gep(at, [builder.add(first, ir.Constant(wide, lane))]))
            value = builder.load(builder.gep(values, [builder.sext(place, wide)]))
            lanes = builder.insert_element(lanes, value, ir.Constant(ir.IntType(32), lane))
        return lanes

    return Lanes(x.dtype)(x, places, index), generate
