"""Poisson solves that torch can differentiate."""

from relaxon.solvers.torch.differentiable import NotConvergedError, poisson_solve

__all__ = ["NotConvergedError", "poisson_solve"]
