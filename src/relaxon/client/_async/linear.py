"""Linear systems on a server for asyncio: sparse matrices that it keeps, and solves with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any

import grpc.aio
from numpy.typing import ArrayLike

from relaxon.client._async.attendance import Attendance
from relaxon.client._async.caller import Caller
from relaxon.client._async.opening import Opening
from relaxon.client._async.remote import RemoteSystem
from relaxon.client._async.steps_call import solutions
from relaxon.core import errors
from relaxon.core.solution import Callback, Solution
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.wire.arrays import Wire
from relaxon.wire.chunks import chunked
from relaxon.wire.conversions.grid import SolverInfo, solver_infos
from relaxon.wire.conversions.matrix import ARGUMENTS, MatrixSetUps, MatrixStep, SentMatrix, SparseMatrix
from relaxon.wire.conversions.solve import Inconsistent
from relaxon.wire.conversions.system import MatrixHandle
from relaxon.wire.handover import Handover, offered
from relaxon.wire.ownership import NotPickled


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

    def matrix(
        self,
        matrix: SparseMatrix,
        *,
        near_null: ArrayLike | None = None,
        coordinates: ArrayLike | None = None,
        block_size: int | None = None,
        symmetric: bool | None = None,
        M: None = None,
        timeout: float | None = None,
    ) -> Opening[RemoteMatrix]:
        """Have the server keep a SciPy sparse matrix.

        Parameters
        ----------
        matrix : symmetric and positive definite, or singular by constants or given null vectors alone, unless
            `relaxon.solvers.solve` takes others.
        near_null, coordinates, block_size, symmetric : as in `relaxon.solvers.solve`.
        M : None; a preconditioner of the caller's is not sent to a server.

        Otherwise as `client.poisson.grid`.
        """
        sent = partial(SentMatrix.of, matrix, near_null, coordinates, block_size, symmetric, M)
        return Opening(partial(self._made, sent, timeout))

    async def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name for sparse matrices."""
        request = poisson_pb2.ListSolversRequest()
        return solver_infos(await self._caller.make(self._stub.ListMatrixSolvers, request, idempotent=True))

    async def _made(self, made: Callable[[], SentMatrix], timeout: float | None) -> RemoteMatrix:
        seconds = self._caller.transfer_seconds(timeout)
        sent = await asyncio.to_thread(made)
        attendance = await self._attendance.name()
        with offered(sent.unknowns, self._wire.shared_memory) as (file, told):
            # A matrix whose answer was lost would be kept until it expires: making it twice does harm.
            kept = await self._caller.make(
                partial(self._stub.CreateMatrix, compression=self._wire.outgoing),
                partial(sent.requests, self._wire, told, attendance),
                idempotent=False,
                seconds=seconds,
                arguments=ARGUMENTS,
            )
            handover = Handover(file if kept.shared else None)
        return RemoteMatrix(self._stub, kept, sent, self._caller, self._target, handover, self._wire)


class RemoteMatrix(MatrixHandle, RemoteSystem):
    """A matrix that a server keeps, from `client.linear.matrix`; right-hand sides are vectors."""

    def __init__(
        self,
        stub: linear_pb2_grpc.LinearSystemServiceAsyncStub,
        kept: pb.Matrix,
        sent: SentMatrix,
        caller: Caller,
        target: str,
        handover: Handover,
        wire: Wire,
    ) -> None:
        super().__init__(stub.SolveMatrix, handover, caller, target, wire)
        self._stub = stub
        self._told(kept, sent)

    def solve_steps(
        self,
        steps: Iterable[ArrayLike | MatrixStep] | AsyncIterable[ArrayLike | MatrixStep],
        *,
        solver: str | None = None,
        device: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        warm_start: bool = True,
        read_ahead: bool = True,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> AsyncIterator[Solution]:
        """Solve for one right-hand side after the other, each from the solution of the one before it.

        Parameters
        ----------
        steps : right-hand sides, or a `MatrixStep` where the matrix has other values as well (time steps, Newton's
            method): what is set up is updated to these, as by `update`. It is pulled from as solutions are taken, in
            the event loop's thread, and may be an async iterable; its arrays are its own again when it is asked for
            the next.
        warm_start : start each step from the last solution; False for zero, as for the steps of Newton's method.
        read_ahead : take a step from `steps` before the solution of the one before it has been given out, so that its
            way to the server overlaps the solve. False where a step depends on the last solution.
        timeout : seconds in which each step has to be answered, None for the client's.

        Everything else is as in `solve`; `x0` is the first step's start. Leave the iteration and the call ends, with
        the step that is being solved. A callback that returns True stops its own step alone.

        Raises
        ------
        As `solve`, an argument's mistake at once and a step's when its turn has come; InvalidArgument names it `b[3]`,
        or `matrix`.
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        messages_for = self._step_messages(self._matrix_step_messages, terms, x0, warm_start, seconds)
        with errors.refusals():
            if not isinstance(steps, Iterable | AsyncIterable):
                raise TypeError(f"steps must be an iterable of right-hand sides, got {type(steps).__name__}")
        begin = partial(self._stub.SolveMatrixSteps, compression=self._wire.outgoing)
        found = solutions(
            self._caller, begin, self._handover, messages_for, steps, callback, read_ahead, seconds, ARGUMENTS
        )
        return self._solutions(found)

    async def update(self, matrix: SparseMatrix, *, timeout: float | None = None) -> None:
        """Put other values on the same pattern in the place of the matrix's: time steps, Newton's method.

        What was set up for it is updated when it is next used: ordering and aggregates stay.

        Parameters
        ----------
        matrix : a SciPy sparse matrix whose entries are where those of the first one are, in any order.

        Raises
        ------
        As `matrix`; and InvalidArgument saying where the pattern differs.
        """
        seconds = self._caller.transfer_seconds(timeout)
        change = await asyncio.to_thread(self._change, matrix)
        method = partial(self._stub.UpdateMatrix, compression=self._wire.outgoing)
        requests = partial(change.update_requests, self.id, self._wire)
        with self._in_use():
            self._changed(
                await self._caller.make(method, requests, idempotent=True, seconds=seconds, arguments=ARGUMENTS)
            )

    async def describe(self) -> MatrixSetUps:
        """Return what the server has set up for it: solvers, their levels, sizes and complexities."""
        request = pb.DescribeMatrixRequest(id=self.id)
        with self._in_use():
            return MatrixSetUps.of(await self._caller.make(self._stub.DescribeMatrix, request, idempotent=True))

    def _deletion(self) -> tuple[Callable[..., Any], Any]:
        return self._stub.DeleteMatrix, pb.DeleteMatrixRequest(id=self.id)
