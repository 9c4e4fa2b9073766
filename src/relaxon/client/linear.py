"""Linear systems on a server: sparse matrices that it keeps, and solves with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from relaxon.client import errors
from relaxon.client.attendance import Attendance
from relaxon.client.handover import Handover, offered
from relaxon.client.poisson import SolverInfo
from relaxon.client.remote import RemoteSystem
from relaxon.client.wire import Wire
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2, tensor_pb2, tensors
from relaxon.solvers import validation


class SparseMatrix(Protocol):
    """What SciPy's sparse matrices and arrays have in common."""

    shape: Any

    def tocsr(self) -> Any: ...


class LinearClient:
    """The calls of a `Client` for sparse matrices."""

    def __init__(
        self, channel: grpc.Channel, attendance: Attendance, timeout: float, transfer_timeout: float, wire: Wire
    ) -> None:
        self._stub = linear_pb2_grpc.LinearSystemServiceStub(channel)
        self._attendance = attendance
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout
        self._wire = wire

    def matrix(self, matrix: SparseMatrix, *, timeout: float | None = None) -> RemoteMatrix:
        """Have the server keep a SciPy sparse matrix: symmetric, positive definite or singular by constants alone.

        Otherwise as `client.poisson.grid`.

        Examples
        --------
        >>> import numpy as np
        >>> import relaxon
        >>> from scipy.sparse import diags_array
        >>> from relaxon.server.app import EmbeddedServer
        >>> A = diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
        >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
        ...     with client.linear.matrix(A) as kept:
        ...         solution = kept.solve(np.ones(50))
        >>> solution.result.name, bool(np.allclose(A @ solution.x, 1))
        ('CONVERGED', True)
        """
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            arrays = csr_arrays(matrix)
        attendance = self._attendance.name()
        unknowns = len(arrays[0]) - 1
        with offered(unknowns, self._wire.shared_memory) as (file, told):
            with errors.translated({"operator": "matrix", "cells": "matrix"}):
                reply = self._stub.CreateMatrix(
                    matrix_requests(arrays, self._wire, told, attendance),
                    timeout=seconds,
                    compression=self._wire.outgoing,
                )
            handover = Handover(file if reply.shared else None)
        return RemoteMatrix(self._stub, reply, self._timeout, self._transfer_timeout, handover, self._wire)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name for sparse matrices."""
        with errors.translated():
            reply = self._stub.ListMatrixSolvers(poisson_pb2.ListSolversRequest(), timeout=self._timeout)
        return tuple(SolverInfo(one.name, one.summary, tuple(one.missing)) for one in reply.solvers)


class RemoteMatrix(RemoteSystem):
    """A matrix that a server keeps, from `client.linear.matrix`; right-hand sides are vectors."""

    default_solver = "auto"

    def __init__(
        self,
        stub: linear_pb2_grpc.LinearSystemServiceStub,
        kept: pb.Matrix,
        timeout: float,
        transfer_timeout: float,
        handover: Handover,
        wire: Wire,
    ) -> None:
        super().__init__(stub.SolveMatrix, handover, timeout, transfer_timeout, wire)
        self._stub = stub
        self.id: str = kept.id
        self.unknowns: int = kept.unknowns
        self.entries: int = kept.entries
        """That are not zero."""
        self.singular_components: int = kept.singular_components
        """Components whose rows sum to zero; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the matrix."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the matrix had it not been used since it was made."""

    def delete(self) -> None:
        """Have the server forget the matrix; NotFound where it already has."""
        with errors.translated():
            self._stub.DeleteMatrix(pb.DeleteMatrixRequest(id=self.id), timeout=self._timeout)
        self._handover.close()

    def __repr__(self) -> str:
        return f"RemoteMatrix({self.unknowns} unknowns, {self.entries} entries)"

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.unknowns,),)


def csr_arrays(matrix: SparseMatrix) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`indptr`, `indices` and `data` of a sparse matrix; TypeError or ValueError for what cannot be sent."""
    if not hasattr(matrix, "tocsr"):
        raise TypeError(f"matrix must be a SciPy sparse matrix, got {type(matrix).__name__}")
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"matrix must be square and not empty, got shape {shape}")
    rows = matrix.tocsr()
    data = validation.real_array("matrix", rows.data)
    if data.size == 0:
        raise ValueError("matrix must have at least one entry, got none")
    return np.asarray(rows.indptr), np.asarray(rows.indices), data


def matrix_requests(
    arrays: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    wire: Wire,
    shared: tensor_pb2.SharedFile | None,
    attendance: str,
) -> Iterator[pb.CreateMatrixRequest]:
    """All that is sent to have a matrix kept."""
    indptr, indices, data = arrays
    yield pb.CreateMatrixRequest(
        header=pb.MatrixHeader(
            indptr=tensors.header_of(indptr),
            indices=tensors.header_of(indices),
            data=tensors.header_of(data),
            shared=shared,
            attendance=attendance,
        )
    )
    for part in tensors.parts_of(indptr, checksum=wire.checksums):
        yield pb.CreateMatrixRequest(indptr=part)
    for part in tensors.parts_of(indices, checksum=wire.checksums):
        yield pb.CreateMatrixRequest(indices=part)
    for part in tensors.parts_of(data, checksum=wire.checksums):
        yield pb.CreateMatrixRequest(data=part)
