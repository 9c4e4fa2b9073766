"""Who calls: the name under which a caller's quotas are counted and its sessions are kept."""

from __future__ import annotations

from typing import Any

import grpc

from relaxon.server.settings import is_loopback

LOCAL = "local"
"""Callers on this machine, however they came."""


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The caller's host, or `LOCAL`."""
    kind, _, address = context.peer().partition(":")
    if kind not in ("ipv4", "ipv6"):
        return LOCAL
    host = address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    return LOCAL if is_loopback(host) else host
