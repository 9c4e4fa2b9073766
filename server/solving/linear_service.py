"""`LinearSystemService`: sparse matrices that are kept, and solves with them. Messages and admission only.

Imported on first use, for its weight: `relaxon.solvers.sparse`, which compiles with Numba.
"""

from __future__ import annotations

from typing import Any

import grpc

from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.server.gate import identity
from relaxon.server.solving.matrices import KeptMatrix
from relaxon.server.solving.runtime import SolveRuntime, list_available
from relaxon.server.solving.steps import StepsCall
from relaxon.wire.conversions.matrix import write_set_ups

Context = grpc.aio.ServicerContext[Any, Any]
NEEDS = ("numba", "scipy")
"""The modules that every solver for matrices needs."""
NEEDS_MORE = {"pyamg-sa": ("pyamg",), "pyamg-rs": ("pyamg",)}


class LinearServicer(linear_pb2_grpc.LinearSystemServiceServicer):
    """The calls for sparse matrices."""

    def __init__(self, runtime: SolveRuntime) -> None:
        self._runtime = runtime

    async def CreateMatrix(self, request_iterator: object, context: Context) -> Any:
        return await self._runtime.answer_create(context, KeptMatrix)

    async def UpdateMatrix(self, request_iterator: object, context: Context) -> Any:
        return await self._runtime.answer_update(context, KeptMatrix)

    # As PoissonServicer.Solve and SolveSteps.
    async def SolveMatrix(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await self._runtime.answer_solve(context, KeptMatrix)

    async def SolveMatrixSteps(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await StepsCall(self._runtime, context, KeptMatrix).run()

    async def DescribeMatrix(self, request: pb.DescribeMatrixRequest, context: Context) -> pb.MatrixDescription:
        with self._runtime.sessions.use(request.id, identity.current(), KeptMatrix) as kept:
            return write_set_ups(kept.id, kept.unknowns, kept.entries, kept.summaries())

    async def DeleteMatrix(self, request: pb.DeleteMatrixRequest, context: Context) -> pb.DeleteMatrixReply:
        self._runtime.sessions.remove(request.id, identity.current(), KeptMatrix)
        return pb.DeleteMatrixReply()

    async def ListMatrixSolvers(
        self, request: poisson_pb2.ListSolversRequest, context: Context
    ) -> poisson_pb2.ListSolversReply:
        return await self._runtime.beside(_list_solvers)


def _list_solvers() -> poisson_pb2.ListSolversReply:
    from relaxon.solvers.sparse import MATRIX_SOLVERS

    return list_available(
        (name, solver.summary, (*NEEDS, *NEEDS_MORE.get(name, ()))) for name, solver in MATRIX_SOLVERS.items()
    )
