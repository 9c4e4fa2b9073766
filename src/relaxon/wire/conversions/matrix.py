"""Sparse matrices as messages, in both directions: entries, new values, what is said of the unknowns, and set-ups.

Everything here is pure: a refusal is a ValueError or a TypeError whose message starts with the argument's name. The
client raises it as `InvalidArgument`, the server reports it as INVALID_ARGUMENT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.masked import refuse_masks
from relaxon.core.set_up_summary import SetUpSummary
from relaxon.core.sparse_matrix import SparseMatrix
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.fields import read_fields, write_fields
from relaxon.wire.conversions.grid import Arr
from relaxon.wire.conversions.steps import StepMessages
from relaxon.wire.handover import Slots
from relaxon.wire.tensors import AnnouncedArray

ARGUMENTS = {"operator": "matrix", "cells": "matrix"}
"""The client's names for fields that the server refuses under other names."""
INDICES = ("int32", "int64")
"""The dtypes of `indptr` and `indices`."""
VALUES = tensors.SIDES
"""The dtypes of `data`."""
RIGID_MOTIONS = {2: 3, 3: 6}
"""The number of rigid motions of an elastic body, by the number of its dimensions."""
MAX_VECTORS = 16
"""The most near-null vectors, as `MatrixProperties` takes them; checked here before memory is taken for them."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixStep:
    """The right-hand side of a step and, if the matrix changes, what it is from this step on."""

    b: ArrayLike
    matrix: SparseMatrix | None = None
    """Other values on the same pattern; None for those of the step before."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixArrays(Generic[Arr]):
    """A matrix in CSR form, and what is said of its unknowns; on the server first as announcements, then as arrays."""

    indptr: Arr
    indices: Arr
    data: Arr
    near_null: Arr | None = None
    coordinates: Arr | None = None
    block_size: int | None = None
    symmetric: bool | None = None

    @staticmethod
    def of(
        matrix: SparseMatrix,
        near_null: ArrayLike | None = None,
        coordinates: ArrayLike | None = None,
        block_size: int | None = None,
        symmetric: bool | None = None,
        M: Any = None,
    ) -> SentMatrix:
        """Return a caller's matrix, ready to be sent; InvalidArgument if it cannot be. The server checks the rest."""
        with errors.refusals():
            if M is not None:
                raise ValueError(
                    f"M must be None here, got {type(M).__name__}: a preconditioner is code, which is not sent to a "
                    "server; solve in process, by `relaxon.solvers.solve`"
                )
            if symmetric is not None and not isinstance(symmetric, bool | np.bool_):
                raise TypeError(f"symmetric must be a bool or None, got {type(symmetric).__name__}")
            return MatrixArrays(
                *_csr_arrays(matrix),
                _vectors(near_null),
                None if coordinates is None else validation.real_array("coordinates", coordinates),
                None if block_size is None else validation.positive_int("block_size", block_size),
                None if symmetric is None else bool(symmetric),
            )

    @property
    def unknowns(self) -> int:
        return int(self.indptr.shape[0]) - 1

    @property
    def entries(self) -> int:
        """The number of stored entries."""
        return int(self.indices.shape[0])

    @property
    def parts(self) -> tuple[tuple[str, Arr], ...]:
        """The arrays in the order in which they travel, each with the field of the messages that carry it."""
        names = ("indptr", "indices", "data", "near_null", "coordinates")
        arrays = (self.indptr, self.indices, self.data, self.near_null, self.coordinates)
        return tuple((name, array) for name, array in zip(names, arrays, strict=True) if array is not None)

    def fill(self, arrays: Iterable[NDArray[Any]]) -> SentMatrix:
        """Return the same with the arrays of `parts` that have arrived, in their order."""
        given = dict(zip((name for name, _ in self.parts), arrays, strict=True))
        return MatrixArrays(**given, block_size=self.block_size, symmetric=self.symmetric)

    def order(self) -> bytes:
        """Return a digest of the positions of the entries: equal for equal positions in the same order."""
        digest = hashlib.blake2b(digest_size=16)
        narrow = max(self.unknowns, self.entries) <= np.iinfo(np.int32).max
        for array in (self.indptr, self.indices):
            digest.update(np.ascontiguousarray(array, np.int32 if narrow else np.int64).data)
        return digest.digest()

    def requests(
        self, wire: Wire, shared: tensor_pb2.SharedFile | None, attendance: str
    ) -> Iterator[pb.CreateMatrixRequest]:
        """Yield the messages that have a server keep the matrix."""
        header = pb.MatrixHeader(
            shared=shared, attendance=attendance, block_size=self.block_size, symmetric=self.symmetric
        )
        _announce(header, self.parts)
        yield pb.CreateMatrixRequest(header=header)
        yield from _array_messages(pb.CreateMatrixRequest, self.parts, wire)


SentMatrix = MatrixArrays[NDArray[Any]]
"""A matrix with its arrays: at the client, and on the server once they have arrived."""


@dataclass(frozen=True, slots=True, eq=False)
class ValuesChange(Generic[Arr]):
    """New values on a kept pattern. Values in the order in which the kept ones were sent come without positions."""

    data: Arr
    indptr: Arr | None = None
    indices: Arr | None = None

    @property
    def alone(self) -> bool:
        """Whether the values come without their positions."""
        return self.indptr is None

    @property
    def parts(self) -> tuple[tuple[str, Arr], ...]:
        """The arrays in the order in which they travel, each with the field of the messages that carry it."""
        named = (("indptr", self.indptr), ("indices", self.indices), ("data", self.data))
        return tuple((name, array) for name, array in named if array is not None)

    def fill(self, arrays: Iterable[NDArray[Any]]) -> ValuesChange[NDArray[Any]]:
        """Return the same with the arrays of `parts` that have arrived, in their order."""
        return ValuesChange(**dict(zip((name for name, _ in self.parts), arrays, strict=True)))

    def message(self) -> pb.MatrixChange:
        """Return the message that announces the change in a header."""
        message = pb.MatrixChange()
        _announce(message, self.parts)
        return message

    def requests(self, kind: Any, wire: Wire) -> Iterator[Any]:
        """Yield the messages of class `kind` that carry the change's arrays."""
        return _array_messages(kind, self.parts, wire)

    def update_requests(self, matrix_id: str, wire: Wire) -> Iterator[pb.UpdateMatrixRequest]:
        """Yield the messages that have a server change a matrix."""
        yield pb.UpdateMatrixRequest(header=pb.UpdateMatrixHeader(id=matrix_id, change=self.message()))
        yield from self.requests(pb.UpdateMatrixRequest, wire)


def change_values(matrix: SparseMatrix, unknowns: int, order: bytes) -> ValuesChange[NDArray[Any]]:
    """Return a matrix as new values for a kept one; InvalidArgument if it cannot be sent.

    `order` is the kept one's, from `MatrixArrays.order`.
    """
    sent = MatrixArrays.of(matrix)
    with errors.refusals():
        if sent.unknowns != unknowns:
            raise ValueError(
                f"matrix must have the shape {(unknowns, unknowns)} of the kept one, got {tuple(matrix.shape)}"
            )
    if sent.order() == order:
        return ValuesChange(sent.data)
    return ValuesChange(sent.data, sent.indptr, sent.indices)


def read_matrix_header(header: pb.MatrixHeader) -> MatrixArrays[AnnouncedArray]:
    """Return what a header announces; ValueError naming the argument if no matrix can be made of it."""
    entries = _read_entries(header)
    unknowns = entries.unknowns
    near_null = coordinates = None
    if header.HasField("near_null"):
        near_null = AnnouncedArray.of("near_null", header.near_null)
        shape = near_null.shape
        if len(shape) != 2 or shape[0] != unknowns or shape[1] > MAX_VECTORS:
            raise ValueError(f"near_null must have shape ({unknowns}, k), k at most {MAX_VECTORS}, got {shape}")
    if header.HasField("coordinates"):
        coordinates = AnnouncedArray.of("coordinates", header.coordinates)
        shape = coordinates.shape
        if len(shape) != 2 or shape[1] not in RIGID_MOTIONS or shape[0] * shape[1] != unknowns:
            raise ValueError(
                f"coordinates must have shape (n/d, d), d 2 or 3, for n = {unknowns} unknowns, got {shape}"
            )
    block_size = header.block_size if header.HasField("block_size") else None
    if block_size is not None and not 1 <= block_size <= MAX_VECTORS:
        raise ValueError(f"block_size must be from 1 to {MAX_VECTORS}, got {block_size}")
    symmetric = header.symmetric if header.HasField("symmetric") else None
    return MatrixArrays(entries.indptr, entries.indices, entries.data, near_null, coordinates, block_size, symmetric)


def read_values(change: pb.MatrixChange, unknowns: int, entries: int) -> ValuesChange[AnnouncedArray]:
    """Return the values that a message announces for a kept matrix that was sent with so many unknowns and entries.

    Raises
    ------
    ValueError : naming the array that does not belong to the kept matrix.
    """
    if change.HasField("indptr") != change.HasField("indices"):
        missing = "indices" if change.HasField("indptr") else "indptr"
        raise ValueError(f"{missing} must come with the other of indptr and indices, got one of them")
    if change.HasField("indptr"):
        sent = _read_entries(change)
        if sent.unknowns != unknowns:
            raise ValueError(f"indptr must have the kept matrix's {unknowns + 1} entries, got {sent.unknowns + 1}")
        return ValuesChange(sent.data, sent.indptr, sent.indices)
    data = AnnouncedArray.of("data", change.data, VALUES)
    if data.shape != (entries,):
        raise ValueError(f"data must have shape {(entries,)}, as the kept matrix's had, got {data.shape}")
    return ValuesChange(data)


def _read_entries(header: pb.MatrixHeader | pb.MatrixChange) -> MatrixArrays[AnnouncedArray]:
    indptr = AnnouncedArray.of("indptr", header.indptr, INDICES)
    indices = AnnouncedArray.of("indices", header.indices, INDICES)
    data = AnnouncedArray.of("data", header.data, VALUES)
    for array in (indptr, indices, data):
        if len(array.shape) != 1:
            raise ValueError(f"{array.name} must have one axis, got shape {array.shape}")
    if indptr.size < 2:
        raise ValueError(f"indptr must have at least 2 entries, got {indptr.size}")
    if data.shape != indices.shape:
        raise ValueError(f"data must be as long as indices, got {data.size} and {indices.size} entries")
    return MatrixArrays(indptr, indices, data)


def _announce(header: pb.MatrixHeader | pb.MatrixChange, parts: tuple[tuple[str, Any], ...]) -> None:
    for name, array in parts:
        getattr(header, name).CopyFrom(tensors.describe_array(array))


def _array_messages(kind: Any, parts: tuple[tuple[str, Any], ...], wire: Wire) -> Iterator[Any]:
    for name, array in parts:
        yield from chunks.split_into_messages(kind, name, array, checksum=wire.checksums)


class MatrixStepMessages(StepMessages):
    """The messages of steps with a matrix."""

    _requests = pb.MatrixStepsRequest
    _step_header = pb.MatrixStepHeader

    def __init__(
        self,
        unknowns: int,
        change: Callable[[SparseMatrix], ValuesChange[NDArray[Any]]],
        wire: Wire,
        places: Slots | None,
    ) -> None:
        """`change` makes new values of a matrix, ready to be sent."""
        super().__init__(wire, places)
        self._unknowns = unknowns
        self._change = change

    def _split(self, step: ArrayLike | MatrixStep) -> tuple[ArrayLike, ValuesChange[NDArray[Any]] | None]:
        given = step if isinstance(step, MatrixStep) else MatrixStep(step)
        return given.b, None if given.matrix is None else self._change(given.matrix)

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self._unknowns,),)


def _vectors(near_null: ArrayLike | None) -> NDArray[Any] | None:
    """Return near-null vectors as columns."""
    if near_null is None:
        return None
    array = validation.real_array("near_null", near_null)
    return array[:, None] if array.ndim == 1 else array


def _csr_arrays(matrix: SparseMatrix) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return `indptr`, `indices` and `data`."""
    if not hasattr(matrix, "tocsr"):
        raise TypeError(f"matrix must be a SciPy sparse matrix, got {type(matrix).__name__}")
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"matrix must be square and not empty, got shape {shape}")
    refuse_masks(matrix=getattr(matrix, "data", None))
    rows = matrix.tocsr()
    data = validation.real_or_complex_array("matrix", rows.data)
    if data.size == 0:
        raise ValueError("matrix must have at least one entry, got none")
    return np.asarray(rows.indptr), np.asarray(rows.indices), data


@dataclass(frozen=True, slots=True)
class MatrixSetUps:
    """What a server has set up for a matrix: one summary per solver, the one used last at the end."""

    summaries: tuple[SetUpSummary, ...]

    @classmethod
    def of(cls, reply: pb.MatrixDescription) -> MatrixSetUps:
        """Read the server's answer."""
        shared = {"unknowns": reply.unknowns, "nonzeros": reply.entries}
        return cls(tuple(read_fields(SetUpSummary, one, **shared) for one in reply.set_ups))

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.summaries)) or "nothing is set up"


def write_set_ups(
    matrix_id: str, unknowns: int, entries: int, summaries: Iterable[tuple[str, SetUpSummary]]
) -> pb.MatrixDescription:
    """Return the message that `MatrixSetUps.of` reads; each summary comes with the name of its solver."""
    set_ups = [write_fields(pb.MatrixSetUp, summary, solver=solver) for solver, summary in summaries]
    return pb.MatrixDescription(id=matrix_id, unknowns=unknowns, entries=entries, set_ups=set_ups)
