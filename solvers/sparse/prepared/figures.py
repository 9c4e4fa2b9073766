"""The figures of a verdict for matrices of any kind, and for operators without entries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.interface.verdict import Figures, backward_error
from relaxon.solvers.sparse.preconditioners.setup import inverse_magnitudes
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem


def row_weights(system: MatrixSystem) -> Array:
    """Return the squared weights of the scaled test: the reciprocals of the diagonal.

    Where the matrix is not symmetric positive definite, those of the diagonal's magnitude, or of the row's largest
    entry where the diagonal is zero.
    """
    return system.inverse_diagonal if system.kind == "spd" else inverse_magnitudes(system)


def complex_figures(system: MatrixSystem, b: NDArray[Any], x: NDArray[Any]) -> Figures:
    """Return the figures for complex vectors, with moduli in the place of magnitudes."""
    with np.errstate(over="ignore", invalid="ignore"):
        r = b - system.matrix @ x
        sizes = np.abs(r)
        error = backward_error(sizes.copy(), abs(system.matrix) @ np.abs(x) + np.abs(b))
    root = np.sqrt(inverse_magnitudes(system))
    residual, side = euclidean_norm(sizes), euclidean_norm(np.abs(b))
    return Figures(residual, error, euclidean_norm(root * sizes), euclidean_norm(root * np.abs(b)), residual, side)


def normwise_figures(r: Array, ax: Array, b: Array) -> Figures:
    """Return the figures where `A` is known by its products only.

    `‖r‖ / (‖A x‖ + ‖b‖)`, an upper bound on the normwise backward error `‖r‖ / (‖A‖ ‖x‖ + ‖b‖)`, takes the place of the
    componentwise one; there is no scaled test.
    """
    residual, size = euclidean_norm(r), euclidean_norm(ax) + euclidean_norm(b)
    return Figures(residual, residual / size if size > 0 else 0.0)


def euclidean_norm(v: Array) -> float:
    """Return `‖v‖₂` without BLAS, whose threads take longer to wake than a vector takes to add up."""
    with np.errstate(over="ignore"):  # an infinite norm is dealt with where it is used
        return math.sqrt(float(np.square(v).sum()))
