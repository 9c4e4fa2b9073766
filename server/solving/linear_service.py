"""`LinearSystemService`: sparse matrices that are kept, and solves with them. Messages and admission only."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import grpc

from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.server.gate import errors
from relaxon.server.gate.identity import caller_of
from relaxon.server.solving import matrices
from relaxon.server.solving.matrices import KeptMatrix
from relaxon.server.solving.matrix_changes import MatrixChangePlan, MatrixStepping, NewValues
from relaxon.server.solving.solve_messages import Shapes
from relaxon.server.solving.solve_service import SolveRuntime, solver_list
from relaxon.server.solving.steps import StepsCall

Context = grpc.aio.ServicerContext[Any, Any]
NEEDS = ("numba", "scipy")
NEEDS_MORE = {"pyamg-sa": ("pyamg",), "pyamg-rs": ("pyamg",)}


class LinearServicer(linear_pb2_grpc.LinearSystemServiceServicer):
    """The calls for sparse matrices."""

    def __init__(self, runtime: SolveRuntime) -> None:
        self._runtime = runtime

    async def CreateMatrix(self, request_iterator: object, context: Context) -> pb.Matrix:
        return await errors.reported(context, self._create_matrix(context))

    # As PoissonServicer.Solve.
    async def SolveMatrix(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._runtime.answer_solve(context, KeptMatrix, _shapes, _solver_named))

    async def UpdateMatrix(self, request_iterator: object, context: Context) -> pb.Matrix:
        return await errors.reported(context, self._update_matrix(context))

    # As PoissonServicer.SolveSteps.
    async def SolveMatrixSteps(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        call = StepsCall(self._runtime, context, _solver_named, MatrixStepping())
        await errors.reported(context, call.run())

    async def DescribeMatrix(self, request: pb.DescribeMatrixRequest, context: Context) -> pb.MatrixDescription:
        return await errors.reported(context, self._describe_matrix(request, context))

    async def DeleteMatrix(self, request: pb.DeleteMatrixRequest, context: Context) -> pb.DeleteMatrixReply:
        return await errors.reported(context, self._delete_matrix(request, context))

    async def ListMatrixSolvers(
        self, request: poisson_pb2.ListSolversRequest, context: Context
    ) -> poisson_pb2.ListSolversReply:
        return await errors.reported(context, self._runtime.beside(_solvers))

    async def _create_matrix(self, context: Context) -> pb.Matrix:
        runtime = self._runtime
        upload, owner = runtime.upload(context), caller_of(context).name
        header: pb.MatrixHeader = await upload.header()
        runtime.attendances.check(header.attendance)
        planned = matrices.plan(header)
        unknowns = planned.matrix.unknowns
        kept_bytes = planned.kept_bytes + runtime.shared_room(header, unknowns)
        with runtime.sessions.reserve(owner, unknowns, kept_bytes, planned.passing_bytes):
            arrays = await planned.read(upload)
            await upload.end()
            start = time.perf_counter()
            checked = await runtime.beside(partial(planned.build, arrays))
            seconds = time.perf_counter() - start
        kept = KeptMatrix(checked, owner, runtime.opened(header, unknowns), header.attendance)
        runtime.sessions.add(kept)
        return _described(kept, seconds)

    async def _update_matrix(self, context: Context) -> pb.Matrix:
        runtime = self._runtime
        upload, caller = runtime.upload(context), caller_of(context)
        header: pb.UpdateMatrixHeader = await upload.header()
        with runtime.sessions.use(header.id, caller, KeptMatrix) as kept:
            planned = MatrixChangePlan.of(header.change, kept)
            with runtime.places.taking(), runtime.sessions.hold(caller.name, planned.bytes):
                values = await planned.read(upload)
                await upload.end()

                # In turn with the solves: one that was asked for before has the matrix as it was.
                work = partial(_changed, kept, values)
                seconds = await runtime.in_turn(work, kept, caller.name, planned.bytes)
                return _described(kept, seconds)

    async def _describe_matrix(self, request: pb.DescribeMatrixRequest, context: Context) -> pb.MatrixDescription:
        with self._runtime.sessions.use(request.id, caller_of(context), KeptMatrix) as kept:
            reply = pb.MatrixDescription(id=kept.id, unknowns=kept.unknowns, entries=kept.entries)
            for solver, summary in kept.summaries():
                told = reply.set_ups.add(
                    solver=solver,
                    setup_seconds=summary.setup_seconds,
                    updates=summary.updates,
                    reason=summary.reason,
                )
                for level in summary.levels:
                    told.levels.add(rows=level.rows, nonzeros=level.nonzeros)
            return reply

    async def _delete_matrix(self, request: pb.DeleteMatrixRequest, context: Context) -> pb.DeleteMatrixReply:
        self._runtime.sessions.remove(request.id, caller_of(context), KeptMatrix)
        return pb.DeleteMatrixReply()


def _changed(kept: KeptMatrix, values: NewValues) -> float:
    """Change a matrix, in a worker thread; the seconds that took."""
    with kept.running:
        start = time.perf_counter()
        kept.change(*values.made(kept))
        return time.perf_counter() - start


def _described(kept: KeptMatrix, seconds: float) -> pb.Matrix:
    reply = pb.Matrix(
        id=kept.id,
        unknowns=kept.unknowns,
        entries=kept.entries,
        singular_components=kept.system.null.dimension,
        setup_seconds=seconds,
        shared=kept.shared is not None,
    )
    reply.expire_time.FromMilliseconds(int(1000 * kept.expires))
    return reply


def _shapes(kept: KeptMatrix) -> Shapes:
    return ((kept.system.unknowns,),)


def _solver_named(name: str) -> Any:
    from relaxon.solvers.sparse.choice.automatic import find_solver

    try:
        return find_solver(name)
    except ValueError as error:
        raise errors.refused(error) from error


def _solvers() -> poisson_pb2.ListSolversReply:
    from relaxon.solvers.sparse import MATRIX_SOLVERS

    return solver_list(
        (name, solver.summary, (*NEEDS, *NEEDS_MORE.get(name, ()))) for name, solver in MATRIX_SOLVERS.items()
    )
