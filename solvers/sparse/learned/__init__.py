"""Constants of the multigrid hierarchy and its cycle, chosen for each matrix by a network that has learned to."""

from relaxon.solvers.sparse.learned.solver import DeepConjugateDirectionMultigrid

__all__ = ["DeepConjugateDirectionMultigrid"]
