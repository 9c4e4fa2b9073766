"""`LinearSystemService`: sparse matrices that are kept, and solves with them. Messages and admission only."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import grpc

from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.server import errors, footprint, matrices
from relaxon.server.identity import caller_of
from relaxon.server.matrices import KeptMatrix
from relaxon.server.solve_messages import Shapes
from relaxon.server.solve_service import SolveRuntime, solver_list

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
        kept_bytes = footprint.matrix_bytes(planned.unknowns, planned.entries)
        kept_bytes += runtime.shared_room(header, planned.unknowns)
        with runtime.sessions.reserve(owner, planned.unknowns, kept_bytes, planned.passing_bytes):
            arrays = [await upload.array(one.name, one) for one in (planned.indptr, planned.indices, planned.data)]
            await upload.end()
            start = time.perf_counter()
            system = await runtime.beside(partial(planned.build, *arrays))
            seconds = time.perf_counter() - start
        kept = KeptMatrix(system, owner, runtime.opened(header, planned.unknowns), header.attendance)
        runtime.sessions.add(kept)
        reply = pb.Matrix(
            id=kept.id,
            unknowns=system.unknowns,
            entries=kept.entries,
            singular_components=system.null.dimension,
            setup_seconds=seconds,
            shared=kept.shared is not None,
        )
        reply.expire_time.FromMilliseconds(int(1000 * kept.expires))
        return reply

    async def _delete_matrix(self, request: pb.DeleteMatrixRequest, context: Context) -> pb.DeleteMatrixReply:
        self._runtime.sessions.remove(request.id, caller_of(context), KeptMatrix)
        return pb.DeleteMatrixReply()


def _shapes(kept: KeptMatrix) -> Shapes:
    return ((kept.system.unknowns,),)


def _solver_named(name: str) -> Any:
    from relaxon.solvers.sparse.choice import named

    try:
        return named(name)
    except ValueError as error:
        raise errors.refused(error) from error


def _solvers() -> poisson_pb2.ListSolversReply:
    from relaxon.solvers.sparse import MATRIX_SOLVERS

    return solver_list(
        (name, solver.summary, (*NEEDS, *NEEDS_MORE.get(name, ()))) for name, solver in MATRIX_SOLVERS.items()
    )
