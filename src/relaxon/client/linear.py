"""Linear systems on a server: sparse matrices that it keeps, and solves with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from relaxon.client.attendance import Attendance
from relaxon.client.caller import Caller
from relaxon.client.handover import Handover, offered
from relaxon.client.linear_messages import ARGUMENTS, MatrixHandle, SparseMatrix, csr_arrays, matrix_requests
from relaxon.client.ownership import NotPickled
from relaxon.client.poisson_messages import SolverInfo, solver_infos
from relaxon.client.remote import RemoteSystem
from relaxon.client.wire import Wire
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.proto.chunks import chunked


class LinearClient(NotPickled):
    """The calls of a `Client` for sparse matrices."""

    def __init__(self, channel: grpc.Channel, attendance: Attendance, caller: Caller, target: str, wire: Wire) -> None:
        self._stub = linear_pb2_grpc.LinearSystemServiceStub(chunked(channel))
        self._attendance = attendance
        self._caller = caller
        self._target = target
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
        seconds = self._caller.transfer_seconds(timeout)
        arrays = csr_arrays(matrix)
        attendance = self._attendance.name()
        with offered(len(arrays[0]) - 1, self._wire.shared_memory) as (file, told):
            # A matrix whose answer was lost would be kept until it expires: making it twice does harm.
            kept = self._caller.make(
                partial(self._stub.CreateMatrix, compression=self._wire.outgoing),
                partial(matrix_requests, arrays, self._wire, told, attendance),
                idempotent=False,
                seconds=seconds,
                arguments=ARGUMENTS,
            )
            handover = Handover(file if kept.shared else None)
        return RemoteMatrix(self._stub, kept, self._caller, self._target, handover, self._wire)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name for sparse matrices."""
        request = poisson_pb2.ListSolversRequest()
        return solver_infos(self._caller.make(self._stub.ListMatrixSolvers, request, idempotent=True))


class RemoteMatrix(MatrixHandle, RemoteSystem):
    """A matrix that a server keeps, from `client.linear.matrix`; right-hand sides are vectors."""

    def __init__(
        self,
        stub: linear_pb2_grpc.LinearSystemServiceStub,
        kept: pb.Matrix,
        caller: Caller,
        target: str,
        handover: Handover,
        wire: Wire,
    ) -> None:
        super().__init__(stub.SolveMatrix, handover, caller, target, wire)
        self._stub = stub
        self._told(kept)

    def _deletion(self) -> tuple[Callable[..., Any], Any]:
        return self._stub.DeleteMatrix, pb.DeleteMatrixRequest(id=self.id)
