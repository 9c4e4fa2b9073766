"""Learned constants of the multigrid hierarchy and its cycle, chosen for each matrix by a network."""

from relaxon.solvers.sparse.learned.solver import DeepConjugateDirectionMultigrid

__all__ = ["DeepConjugateDirectionMultigrid"]
