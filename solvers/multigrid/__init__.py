"""Geometric multigrid on a grid's cells, as a preconditioner."""

from relaxon.solvers.multigrid.solver import MultigridCG, VCycle

__all__ = ["MultigridCG", "VCycle"]
