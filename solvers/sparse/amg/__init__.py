"""Compiled algebraic multigrid for sparse symmetric positive (semi)definite matrices."""

from relaxon.solvers.sparse.amg.constants import Constants
from relaxon.solvers.sparse.amg.solver import AlgebraicMultigrid

__all__ = ["AlgebraicMultigrid", "Constants"]
