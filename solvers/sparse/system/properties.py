"""A matrix's properties as declared by the caller: near-null vectors, nodes, symmetry, and a preconditioner."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.sparse.system.caller_maps import check_map, check_shape

Array = NDArray[np.float64]
MAX_VECTORS = 16
"""The largest number of near-null vectors: each one enlarges the blocks of all coarse levels."""
INDEPENDENT = 1e-10
"""A column of norm 1 is independent of others when at least this norm remains outside their span."""
DIMENSIONS = (2, 3)
"""Numbers of dimensions of an elastic body."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixProperties:
    """The keyword arguments of `solve`, `solve_many` and `prepare` that describe a matrix; None where not given.

    Parameters
    ----------
    near_null : `(n, k)` or `(n,)` float32, float64 or integers; vectors that `A` maps to almost zero, as columns.
    coordinates : `(n/d, d)`, `d` 2 or 3: the nodes of an elastic body, whose unknowns are numbered node by node; its
        rigid motions are the near-null vectors.
    block_size : the number of unknowns of a node, which are numbered consecutively.
    symmetric : whether `A` is symmetric (Hermitian, where it is complex).
    M : an approximate inverse of `A`: a callable, a `LinearOperator` or a sparse matrix.
    """

    near_null: Any = None
    coordinates: Any = None
    block_size: Any = None
    symmetric: Any = None
    M: Any = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the arguments that are given."""
        return tuple(entry.name for entry in fields(self) if getattr(self, entry.name) is not None)

    @property
    def has_nodes(self) -> bool:
        """Whether nodes or near-null vectors are given."""
        return self.near_null is not None or self.coordinates is not None or self.block_size is not None

    def validate(self, unknowns: int) -> MatrixProperties:
        """Return the properties validated for a matrix with that many unknowns: arrays as float64 copies, ints as int.

        TypeError or ValueError, naming the argument, for one that is malformed or does not fit.
        """
        if self.symmetric is not None and not isinstance(self.symmetric, bool | np.bool_):
            raise TypeError(f"symmetric must be a bool or None, got {type(self.symmetric).__name__}")
        if self.near_null is not None and self.coordinates is not None:
            raise ValueError("near_null must be None where coordinates are given, which stand for rigid motions")
        block_size = None if self.block_size is None else _validate_block_size(self.block_size, unknowns)
        near_null = None if self.near_null is None else _validate_vectors(self.near_null, unknowns)
        coordinates = None if self.coordinates is None else _validate_points(self.coordinates, unknowns, block_size)
        symmetric = None if self.symmetric is None else bool(self.symmetric)
        _check_map(self.M, unknowns)
        return replace(self, near_null=near_null, coordinates=coordinates, block_size=block_size, symmetric=symmetric)


def _validate_block_size(value: Any, unknowns: int) -> int:
    size = validation.positive_int("block_size", value)
    if unknowns % size:
        raise ValueError(f"block_size must divide the number of unknowns, {unknowns}, got {size}")
    if size > MAX_VECTORS:
        raise ValueError(f"block_size must be at most {MAX_VECTORS}, got {size}")
    return size


def _validate_vectors(value: Any, unknowns: int) -> Array:
    array = validation.real_array("near_null", value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[0] != unknowns:
        raise ValueError(f"near_null must have shape ({unknowns}, k) or ({unknowns},), got {np.shape(value)}")
    count = array.shape[1]
    if not 0 < count <= min(MAX_VECTORS, unknowns):
        raise ValueError(f"near_null must have 1 to {min(MAX_VECTORS, unknowns)} columns, got {count}")
    vectors = np.array(array, np.float64, order="C", copy=True)
    vectors = np.ldexp(vectors, -_exponents(vectors))  # so that squares neither overflow nor underflow
    norms = np.sqrt(np.square(vectors).sum(axis=0))
    if not norms.all():
        raise ValueError(f"near_null must have no column of zeros, got one in column {int(np.argmin(norms))}")
    dependent = _find_dependent_column(vectors / norms)
    if dependent is not None:
        raise ValueError(
            f"near_null must have linearly independent columns, got column {dependent} in the span of those before it"
        )
    return vectors


def _exponents(vectors: Array) -> NDArray[np.int64]:
    """Return the binary exponent of each column's largest magnitude."""
    return np.asarray(np.frexp(np.abs(vectors).max(axis=0))[1], np.int64)


def _find_dependent_column(vectors: Array) -> int | None:
    """Return the first of the columns, of norm 1, that lies in the span of those before it; None where none does."""
    basis = np.empty_like(vectors.T)
    for k, column in enumerate(vectors.T):
        rest = column.copy()
        for _ in range(2):
            rest -= basis[:k].T @ (basis[:k] @ rest)
        left = float(np.sqrt(np.square(rest).sum()))
        if left <= INDEPENDENT:
            return k
        basis[k] = rest / left
    return None


def _validate_points(value: Any, unknowns: int, block_size: int | None) -> Array:
    array = validation.real_array("coordinates", value)
    expected = " or ".join(f"({unknowns // d}, {d})" for d in DIMENSIONS if unknowns % d == 0)
    if not expected:
        raise ValueError(
            f"coordinates must be None for a matrix of {unknowns} unknowns: an elastic body has 2 or 3 for each node"
        )
    if array.ndim != 2 or array.shape[1] not in DIMENSIONS or array.shape[0] * array.shape[1] != unknowns:
        raise ValueError(f"coordinates must have shape {expected} for {unknowns} unknowns, got {array.shape}")
    if block_size not in (None, array.shape[1]):
        raise ValueError(
            f"block_size must be {array.shape[1]} with coordinates of shape {array.shape}: one unknown for each of a "
            f"node's axes, got {block_size}"
        )
    points = np.array(array, np.float64, order="C", copy=True)
    if len(points) > 1 and not (points != points[0]).any():
        raise ValueError(f"coordinates must differ from one another, got {len(points)} times the same point")
    return points


def _check_map(value: Any, unknowns: int) -> None:
    if value is None:
        return
    check_map("M", value)
    check_shape("M", value, unknowns)
