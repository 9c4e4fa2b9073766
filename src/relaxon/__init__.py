"""relaxon: solvers that relax to an equilibrium, in process and over gRPC.

`relaxon.solvers` holds the engines; `relaxon.connect` reaches a server. Importing this package loads neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relaxon._version import __version__

if TYPE_CHECKING:
    from relaxon.client import connect

__all__ = ["__version__", "connect"]


def __getattr__(name: str) -> Any:
    if name == "connect":
        from relaxon.client import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
