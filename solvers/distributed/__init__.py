"""One grid in many processes: the learned cycle and conjugate directions over MPI, the same kernels in each process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxon.solvers.distributed.communicator import Communicator, MPICommunicator
    from relaxon.solvers.distributed.decomposition import Decomposition
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid
    from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner
    from relaxon.solvers.distributed.prepared import PreparedDistributed

_HOMES = {
    "Communicator": "communicator",
    "MPICommunicator": "communicator",
    "Decomposition": "decomposition",
    "DistributedPoissonGrid": "grid",
    "DistributedPreconditioner": "preconditioner",
    "PreparedDistributed": "prepared",
}
__all__ = [
    "Communicator",
    "Decomposition",
    "DistributedPoissonGrid",
    "DistributedPreconditioner",
    "MPICommunicator",
    "PreparedDistributed",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
