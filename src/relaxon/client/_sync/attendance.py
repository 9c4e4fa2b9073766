# Generated from relaxon/client/_async/attendance.py by tools/generate_client.py: edit that file and run the tool.
"""Tells a server that this blocking client is there, so that the server frees what it keeps once the client is gone."""

from __future__ import annotations

from typing import Any

import grpc

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client.shared.blocking_runtime import Channel, Lock, is_open, read_first, status_code
from relaxon.core import errors
from relaxon.proto import session_pb2 as pb
from relaxon.proto import session_pb2_grpc


class Attendance:
    """One open call for a whole connection, begun with the first thing that the server is to keep.

    Where the connection breaks and comes back, the call is resumed within its lease.
    """

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
        self._stub: Any = session_pb2_grpc.SessionServiceStub(channel)
        self._caller = caller
        self._lock = Lock()
        self._name = ""
        self._call: Any = None
        self._closed = False

    def name(self) -> str:
        """Return the name to send with what the server is to keep; empty where the server has no such service."""
        self._caller.owner.check()
        with self._lock:
            if self._call is None or not is_open(self._call):
                self._begin()
            return self._name

    def close(self) -> None:
        """End the call."""
        self._closed = True
        call = self._call
        if call is not None:
            call.cancel()

    def _begin(self) -> None:
        call = self._caller.begin(self._stub.Attend, pb.AttendRequest(), None)
        try:
            with errors.translate_errors():
                reply = read_first(call, self._caller.timeout)
        except errors.FailedPrecondition:  # a server without this service
            self._name = ""
            return
        except TimeoutError:
            call.cancel()
            raise errors.DeadlineExceeded("the server did not take this client's attendance in time") from None
        if reply is None:
            raise errors.Unavailable("the server is about to stop")
        self._name, self._call = reply.id, call
        call.add_done_callback(self._resume)

    def _resume(self, ended: Any) -> None:
        """Where the connection broke, begin the call again as soon as there is another connection."""
        if self._closed or ended is not self._call or status_code(ended) is not grpc.StatusCode.UNAVAILABLE:
            return
        attend = self._stub.Attend
        try:
            self._call = self._caller.begin(
                lambda request, **options: attend(request, wait_for_ready=True, **options),
                pb.AttendRequest(id=self._name),
                None,
            )
        except errors.Cancelled:  # the client has been closed
            return
