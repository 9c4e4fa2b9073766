"""One grid in many processes: the learned cycle and conjugate directions over MPI, the same kernels in each process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.solvers.distributed.communicator import Communicator, MPICommunicator
    from relaxon.solvers.distributed.decomposition import Decomposition
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid
    from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner
    from relaxon.solvers.distributed.prepared import PreparedDistributed

_MODULES = {
    "communicator": "Communicator MPICommunicator",
    "decomposition": "Decomposition",
    "grid": "DistributedPoissonGrid",
    "preconditioner": "DistributedPreconditioner",
    "prepared": "PreparedDistributed",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOME)
__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
