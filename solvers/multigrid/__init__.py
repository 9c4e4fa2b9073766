"""Geometric multigrid on a grid's cells, as a preconditioner."""

from relaxon.solvers.multigrid.solver import CycleConstants, MultigridCG, VCycle

__all__ = ["CycleConstants", "MultigridCG", "VCycle"]
