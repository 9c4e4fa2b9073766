"""Solvers of sparse matrices from other libraries behind the same interface, imported only when they are used."""

from __future__ import annotations

from relaxon.solvers.sparse.peers.libraries import (
    AMGCL,
    ApproximateCholesky,
    Cholmod,
    Hypre,
    Pardiso,
    PeerFactor,
    PeerSolver,
)

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
