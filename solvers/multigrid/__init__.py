"""Geometric multigrid on a grid's cells: V-cycles as preconditioners and as directions."""

from relaxon.solvers.multigrid.solver import MultigridCG

__all__ = ["MultigridCG"]
