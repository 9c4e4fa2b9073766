"""Solvers of sparse matrices from other libraries behind the same interface, imported only when they are used."""

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
"""The solvers by name, with the options that are best over the gallery."""


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
