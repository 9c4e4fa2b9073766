"""Algebraic multigrid for nonsymmetric matrices, whose sweeps follow the flow downstream."""
