"""Sparse matrices as they travel, and what a client knows of one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.html import table
from relaxon.core.masked import refuse_masks
from relaxon.core.set_up_summary import LevelSize, SetUpSummary
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.steps import StepMessages
from relaxon.wire.conversions.system import SystemHandle
from relaxon.wire.handover import Places

ARGUMENTS = {"operator": "matrix", "cells": "matrix"}
"""What the messages' fields are called here."""


class SparseMatrix(Protocol):
    """What SciPy's sparse matrices and arrays have in common."""

    shape: Any

    def tocsr(self) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class MatrixStep:
    """A step's right-hand side and, where the matrix changes, what it is from this step on."""

    b: ArrayLike
    matrix: SparseMatrix | None = None
    """With other values on the same pattern; None for that of the step before."""


@dataclass(frozen=True, slots=True, eq=False)
class SentMatrix:
    """A matrix's arrays, and what is said of its unknowns, checked and ready to be sent."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    data: NDArray[Any]
    near_null: NDArray[Any] | None = None
    coordinates: NDArray[Any] | None = None
    block_size: int | None = None
    symmetric: bool | None = None

    @classmethod
    def of(
        cls,
        matrix: SparseMatrix,
        near_null: ArrayLike | None = None,
        coordinates: ArrayLike | None = None,
        block_size: int | None = None,
        symmetric: bool | None = None,
        M: Any = None,
    ) -> SentMatrix:
        """InvalidArgument for what cannot be sent; the server checks the rest."""
        with errors.refusals():
            if M is not None:
                raise ValueError(
                    f"M must be None here, got {type(M).__name__}: a preconditioner is code, which is not sent to a "
                    "server; solve in process, by `relaxon.solvers.solve`"
                )
            if symmetric is not None and not isinstance(symmetric, bool | np.bool_):
                raise TypeError(f"symmetric must be a bool or None, got {type(symmetric).__name__}")
            return cls(
                *_csr_arrays(matrix),
                _vectors(near_null),
                None if coordinates is None else validation.real_array("coordinates", coordinates),
                None if block_size is None else validation.positive_int("block_size", block_size),
                None if symmetric is None else bool(symmetric),
            )

    @property
    def unknowns(self) -> int:
        return len(self.indptr) - 1

    def order(self) -> bytes:
        """A digest of the places of its entries, in their order: the same for the same places in the same order."""
        digest = hashlib.blake2b(digest_size=16)
        narrow = max(self.unknowns, len(self.indices)) <= np.iinfo(np.int32).max
        for array in (self.indptr, self.indices):
            digest.update(np.ascontiguousarray(array, np.int32 if narrow else np.int64).data)
        return digest.digest()

    def requests(
        self, wire: Wire, shared: tensor_pb2.SharedFile | None, attendance: str
    ) -> Iterator[pb.CreateMatrixRequest]:
        """All that is sent to have it kept."""
        said = {"near_null": self.near_null, "coordinates": self.coordinates}
        yield pb.CreateMatrixRequest(
            header=pb.MatrixHeader(
                indptr=tensors.header_of(self.indptr),
                indices=tensors.header_of(self.indices),
                data=tensors.header_of(self.data),
                shared=shared,
                attendance=attendance,
                block_size=self.block_size,
                symmetric=self.symmetric,
                **{name: tensors.header_of(array) for name, array in said.items() if array is not None},
            )
        )
        arrays = {"indptr": self.indptr, "indices": self.indices, "data": self.data, **said}
        for field, array in arrays.items():
            if array is not None:
                yield from chunks.messages_of(pb.CreateMatrixRequest, field, array, checksum=wire.checksums)


@dataclass(frozen=True, slots=True, eq=False)
class ValuesChange:
    """Other values on a kept pattern, ready to be sent."""

    matrix: SentMatrix
    alone: bool
    """Whether they are in the order in which the kept ones were sent, so that they go without their places."""

    @property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = self.matrix
        return {"data": own.data} if self.alone else {"indptr": own.indptr, "indices": own.indices, "data": own.data}

    def message(self) -> pb.MatrixChange:
        """As a header announces it."""
        return pb.MatrixChange(**{name: tensors.header_of(array) for name, array in self._arrays.items()})

    def requests(self, kind: Any, wire: Wire) -> Iterator[Any]:
        """Its arrays' parts in messages of that class."""
        for field, array in self._arrays.items():
            yield from chunks.messages_of(kind, field, array, checksum=wire.checksums)

    def update_requests(self, matrix_id: str, wire: Wire) -> Iterator[pb.UpdateMatrixRequest]:
        """All that is sent to have a matrix changed."""
        yield pb.UpdateMatrixRequest(header=pb.UpdateMatrixHeader(id=matrix_id, change=self.message()))
        yield from self.requests(pb.UpdateMatrixRequest, wire)


class MatrixStepMessages(StepMessages):
    """Those of steps with a matrix."""

    _requests = pb.MatrixStepsRequest

    def __init__(
        self,
        unknowns: int,
        change: Callable[[SparseMatrix], ValuesChange],
        wire: Wire,
        places: Places | None,
    ) -> None:
        """`change` makes a matrix ready to be sent."""
        super().__init__(wire, places)
        self._unknowns = unknowns
        self._change = change

    def _taken(self, step: ArrayLike | MatrixStep) -> tuple[ArrayLike, ValuesChange | None]:
        given = step if isinstance(step, MatrixStep) else MatrixStep(step)
        return given.b, None if given.matrix is None else self._change(given.matrix)

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self._unknowns,),)

    def _header(self, b: NDArray[Any], change: Any) -> pb.MatrixStepHeader:
        return pb.MatrixStepHeader(b=tensors.header_of(b), change=None if change is None else change.message())


def _vectors(near_null: ArrayLike | None) -> NDArray[Any] | None:
    """Near-null vectors as columns."""
    if near_null is None:
        return None
    array = validation.real_array("near_null", near_null)
    return array[:, None] if array.ndim == 1 else array


def _csr_arrays(matrix: SparseMatrix) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`indptr`, `indices` and `data` of a sparse matrix."""
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
    """What a server has set up for a matrix: one summary a solver, the one used last at the end."""

    summaries: tuple[SetUpSummary, ...]

    @classmethod
    def of(cls, reply: pb.MatrixDescription) -> MatrixSetUps:
        """From the server's answer."""
        return cls(
            tuple(
                SetUpSummary(
                    solver=one.solver,
                    unknowns=reply.unknowns,
                    nonzeros=reply.entries,
                    levels=tuple(LevelSize(level.rows, level.nonzeros) for level in one.levels),
                    setup_seconds=one.setup_seconds,
                    updates=one.updates,
                    reason=one.reason,
                )
                for one in reply.set_ups
            )
        )

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.summaries)) or "nothing is set up"


class MatrixHandle(SystemHandle):
    """What a client knows of a matrix that a server keeps."""

    _default_solver = "auto"

    def _told(self, kept: pb.Matrix, sent: SentMatrix) -> None:
        """Note what the server said of what it was sent."""
        self._order = sent.order()
        self._complex_valued = sent.data.dtype.kind == "c"
        self.id: str = kept.id
        self.unknowns: int = kept.unknowns
        self.entries: int = kept.entries
        """That are not zero."""
        self.singular_components: int = kept.singular_components
        """Components whose rows sum to zero; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the matrix, or its newest values."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the matrix had it not been used since it was made."""

    def _change(self, matrix: SparseMatrix) -> ValuesChange:
        """Other values for it; InvalidArgument for what cannot be sent."""
        sent = SentMatrix.of(matrix)
        with errors.refusals():
            if sent.unknowns != self.unknowns:
                shape = (self.unknowns, self.unknowns)
                raise ValueError(f"matrix must have the shape {shape} of the kept one, got {tuple(matrix.shape)}")
        return ValuesChange(sent, sent.order() == self._order)

    def _changed(self, reply: pb.Matrix) -> None:
        self.entries = reply.entries
        self.singular_components = reply.singular_components
        self.setup_seconds = reply.setup_seconds

    def _matrix_step_messages(self, places: Places | None) -> MatrixStepMessages:
        """The maker of a sequence's messages, with a shared file's places."""
        return MatrixStepMessages(self.unknowns, self._change, self._wire, places)

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.unknowns,),)

    def __repr__(self) -> str:
        return f"RemoteMatrix({self.unknowns} unknowns, {self.entries} entries)"

    def _repr_html_(self) -> str:
        rows = {"unknowns": f"{self.unknowns:,}", "entries": f"{self.entries:,}", "server": self._target, "id": self.id}
        return table("matrix on a server", rows)
