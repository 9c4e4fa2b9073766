"""One grid in many processes: the learned cycle and conjugate directions over MPI, the same kernels in each process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.solvers.distributed.communicator import Communicator as Communicator
    from relaxon.solvers.distributed.communicator import MPICommunicator as MPICommunicator
    from relaxon.solvers.distributed.decomposition import Decomposition as Decomposition
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid as DistributedPoissonGrid
    from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner as DistributedPreconditioner
    from relaxon.solvers.distributed.prepared import PreparedDistributed as PreparedDistributed

__getattr__, __dir__ = offer_imports(__name__)
