"""relaxon: solvers that relax to an equilibrium, in process and over gRPC.

`relaxon.solvers` holds the engines; `relaxon.connect` reaches a server, `relaxon.aio.connect` does so from asyncio.
Importing this package loads none of them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from relaxon._version import __version__

if TYPE_CHECKING:
    from relaxon import aio
    from relaxon.client import connect

# gRPC's core has fork handlers where this is not set, and starts threads in every forked child, which now and then end
# the child by a segmentation fault. It reads the variable when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

__all__ = ["__version__", "aio", "connect"]


def __getattr__(name: str) -> Any:
    if name == "connect":
        from relaxon.client import connect

        return connect
    if name == "aio":
        return import_module("relaxon.aio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
