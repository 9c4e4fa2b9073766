"""`PoissonService`: grids that are kept, and solves on them. Messages and admission only; no numerics."""

from __future__ import annotations

from typing import Any

import grpc

from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.server.gate import identity
from relaxon.server.solving.grids import KeptGrid
from relaxon.server.solving.runtime import SolveRuntime, list_available
from relaxon.server.solving.steps import StepsCall
from relaxon.solvers.interface import registry

Context = grpc.aio.ServicerContext[Any, Any]


class PoissonServicer(poisson_pb2_grpc.PoissonServiceServicer):
    """The calls for grids."""

    def __init__(self, runtime: SolveRuntime) -> None:
        self._runtime = runtime

    async def CreateGrid(self, request_iterator: object, context: Context) -> Any:
        return await self._runtime.answer_create(context, KeptGrid)

    async def UpdateGrid(self, request_iterator: object, context: Context) -> Any:
        return await self._runtime.answer_update(context, KeptGrid)

    # Read and written through the context: the replies depend on requests that may come at any time.
    async def Solve(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await self._runtime.answer_solve(context, KeptGrid)

    async def SolveSteps(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await StepsCall(self._runtime, context, KeptGrid).run()

    async def DeleteGrid(self, request: pb.DeleteGridRequest, context: Context) -> pb.DeleteGridReply:
        self._runtime.sessions.remove(request.id, identity.current(), KeptGrid)
        return pb.DeleteGridReply()

    async def ListSolvers(self, request: pb.ListSolversRequest, context: Context) -> pb.ListSolversReply:
        return await self._runtime.beside(_list_solvers)


def _list_solvers() -> pb.ListSolversReply:
    return list_available((entry.name, entry.summary, entry.needs) for entry in registry.list_solvers())
