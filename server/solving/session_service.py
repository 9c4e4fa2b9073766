"""`SessionService`: callers announce their presence."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from relaxon.proto import session_pb2 as pb
from relaxon.proto import session_pb2_grpc
from relaxon.server.gate import errors
from relaxon.server.gate.attendance import AttendanceList

Context = grpc.aio.ServicerContext[Any, Any]


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """Answers once, and keeps the call open."""

    def __init__(self, attendances: AttendanceList) -> None:
        self._attendances = attendances
        self._closing = asyncio.Event()

    async def Attend(self, request: pb.AttendRequest, context: Context) -> None:  # type: ignore[override]
        if self._closing.is_set():
            raise errors.stopping()
        with self._attendances.attending(request.id) as name:
            reply = pb.Attendance(id=name)
            reply.lease.FromMilliseconds(round(1000 * self._attendances.lease_seconds))
            await context.write(reply)
            # Cancelled, and with it the block, when the caller ends the call or the connection is lost.
            await self._closing.wait()

    def close(self) -> None:
        """End the calls of all attendances: the server is about to stop, and would wait for them."""
        self._closing.set()
        self._attendances.close()
