"""Other people's solvers of sparse matrices behind the same front: loaded, and looked for, only when asked for."""

from __future__ import annotations

from relaxon.solvers.sparse.peers.approximate import ApproximateCholesky
from relaxon.solvers.sparse.peers.multigrid import AMGCL, Hypre
from relaxon.solvers.sparse.peers.peer import PeerFactor, PeerSolver
from relaxon.solvers.sparse.peers.supernodal import Cholmod, Pardiso

PEERS: dict[str, PeerSolver] = {
    "hypre": Hypre(),
    "cholmod": Cholmod(),
    "pardiso": Pardiso(),
    "apxchol": ApproximateCholesky(),
    "amgcl": AMGCL(),
}
"""By name, with the options that serve best over the gallery."""

__all__ = [
    "AMGCL",
    "PEERS",
    "ApproximateCholesky",
    "Cholmod",
    "Hypre",
    "Pardiso",
    "PeerFactor",
    "PeerSolver",
]
