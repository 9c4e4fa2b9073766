"""Solves on grids: preparation, several right-hand sides, the choice of a solver, and the solvers by name."""
