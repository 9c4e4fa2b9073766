"""Linear systems on a server for asyncio: sparse matrices that it keeps, and solves with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc.aio

from relaxon.aio.attendance import Attendance
from relaxon.aio.caller import Caller
from relaxon.aio.opening import Opening
from relaxon.aio.remote import RemoteSystem
from relaxon.client.handover import Handover, offered
from relaxon.client.linear_messages import ARGUMENTS, MatrixHandle, SparseMatrix, csr_arrays, matrix_requests
from relaxon.client.ownership import NotPickled
from relaxon.client.poisson_messages import SolverInfo, solver_infos
from relaxon.client.wire import Wire
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.proto.chunks import chunked


class LinearClient(NotPickled):
    """The calls of a `relaxon.aio.Client` for sparse matrices."""

    def __init__(
        self, channel: grpc.aio.Channel, attendance: Attendance, caller: Caller, target: str, wire: Wire
    ) -> None:
        self._stub: linear_pb2_grpc.LinearSystemServiceAsyncStub = linear_pb2_grpc.LinearSystemServiceStub(
            chunked(channel)
        )
        self._attendance = attendance
        self._caller = caller
        self._target = target
        self._wire = wire

    def matrix(self, matrix: SparseMatrix, *, timeout: float | None = None) -> Opening[RemoteMatrix]:
        """Have the server keep a SciPy sparse matrix: symmetric, positive definite or singular by constants alone.

        Otherwise as `client.poisson.grid`.
        """
        return Opening(partial(self._made, matrix, timeout))

    async def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name for sparse matrices."""
        request = poisson_pb2.ListSolversRequest()
        return solver_infos(await self._caller.make(self._stub.ListMatrixSolvers, request, idempotent=True))

    async def _made(self, matrix: SparseMatrix, timeout: float | None) -> RemoteMatrix:
        seconds = self._caller.transfer_seconds(timeout)
        arrays = await asyncio.to_thread(csr_arrays, matrix)
        attendance = await self._attendance.name()
        with offered(len(arrays[0]) - 1, self._wire.shared_memory) as (file, told):
            # A matrix whose answer was lost would be kept until it expires: making it twice does harm.
            kept = await self._caller.make(
                partial(self._stub.CreateMatrix, compression=self._wire.outgoing),
                partial(matrix_requests, arrays, self._wire, told, attendance),
                idempotent=False,
                seconds=seconds,
                arguments=ARGUMENTS,
            )
            handover = Handover(file if kept.shared else None)
        return RemoteMatrix(self._stub, kept, self._caller, self._target, handover, self._wire)


class RemoteMatrix(MatrixHandle, RemoteSystem):
    """A matrix that a server keeps, from `client.linear.matrix`; right-hand sides are vectors."""

    def __init__(
        self,
        stub: linear_pb2_grpc.LinearSystemServiceAsyncStub,
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
