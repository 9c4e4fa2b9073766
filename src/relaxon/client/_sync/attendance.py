"""Tells a server that this client is there, so that what it keeps for the client goes when the client has gone."""

from __future__ import annotations

import threading
from typing import Any

import grpc

from relaxon.client._sync.caller import Caller
from relaxon.core import errors
from relaxon.proto import session_pb2 as pb
from relaxon.proto import session_pb2_grpc


class Attendance:
    """One open call for a whole connection, begun with the first thing that the server is to keep.

    Where the connection breaks and comes back, the call is taken up again within its lease.
    """

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = session_pb2_grpc.SessionServiceStub(channel)
        self._timeout = caller.timeout
        self._owner = caller.owner
        self._lock = threading.Lock()
        self._name = ""
        self._call: Any = None
        self._closed = False

    def name(self) -> str:
        """For the header of what the server is to keep; empty where the server knows nothing of attendances."""
        self._owner.check()
        with self._lock:
            if self._call is None or not self._call.is_active():
                self._begin()
            return self._name

    def close(self) -> None:
        """Leave."""
        self._closed = True
        call = self._call
        if call is not None:
            call.cancel()

    def _begin(self) -> None:
        call: Any = self._stub.Attend(pb.AttendRequest())
        timer = threading.Timer(self._timeout, call.cancel)
        timer.daemon = True
        timer.start()
        try:
            with errors.translated():
                reply = next(iter(call))
        except errors.FailedPrecondition:  # a server without this service
            self._name = ""
            return
        except StopIteration:
            raise errors.Unavailable("the server is about to stop") from None
        finally:
            timer.cancel()
        self._name, self._call = reply.id, call
        call.add_done_callback(self._resume)

    def _resume(self, ended: Any) -> None:
        """In gRPC's thread: where the connection broke, take the attendance up again as soon as there is another."""
        if self._closed or ended is not self._call or ended.code() is not grpc.StatusCode.UNAVAILABLE:
            return
        try:
            self._call = self._stub.Attend(pb.AttendRequest(id=self._name), wait_for_ready=True)
        except errors.Cancelled:  # the client has been closed
            return
        self._call.add_done_callback(self._lost)

    def _lost(self, ended: Any) -> None:
        """The second call has ended, too: whoever needs an attendance next begins a new one."""
        if ended is self._call and not self._closed:
            self._call = None
