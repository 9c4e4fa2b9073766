"""The direct solver of boxes: fast diagonalisation of operators that are sums of products along the axes."""

from relaxon.solvers.separable.solver import FastDiagonalisation

__all__ = ["FastDiagonalisation"]
