"""Tells a server that this asyncio client is there, so that what it keeps for the client goes when the client has."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from relaxon.client._async.caller import Caller, at_once
from relaxon.core import errors
from relaxon.proto import session_pb2 as pb
from relaxon.proto import session_pb2_grpc


class Attendance:
    """One open call for a whole connection, begun with the first thing that the server is to keep.

    Where the connection breaks and comes back, the call is taken up again within its lease.
    """

    def __init__(self, channel: grpc.aio.Channel, caller: Caller) -> None:
        self._stub: Any = session_pb2_grpc.SessionServiceStub(channel)
        self._caller = caller
        self._lock = asyncio.Lock()
        self._name = ""
        self._call: Any = None
        self._closed = False

    async def name(self) -> str:
        """For the header of what the server is to keep; empty where the server knows nothing of attendances."""
        async with self._lock:
            if self._call is None or self._call.done():
                await self._begin()
            return self._name

    def close(self) -> None:
        """Leave."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def _begin(self) -> None:
        call = self._caller.begun(self._stub.Attend, pb.AttendRequest(), None)
        try:
            with errors.translated():
                async with asyncio.timeout(self._caller.timeout):
                    reply = await call.read()
        except errors.FailedPrecondition:  # a server without this service
            self._name = ""
            return
        except TimeoutError:
            call.cancel()
            raise errors.DeadlineExceeded("the server did not take this client's attendance in time") from None
        if reply is grpc.aio.EOF:
            raise errors.Unavailable("the server is about to stop")
        self._name, self._call = reply.id, call
        call.add_done_callback(self._resume)

    def _resume(self, ended: Any) -> None:
        """Where the connection broke, take the attendance up again as soon as there is another."""
        if self._closed or ended is not self._call or at_once(ended.code()) is not grpc.StatusCode.UNAVAILABLE:
            return
        attend = self._stub.Attend
        self._call = self._caller.begun(
            lambda request, **how: attend(request, wait_for_ready=True, **how), pb.AttendRequest(id=self._name), None
        )
