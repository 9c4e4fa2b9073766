"""A grid whose operator is of ordinary size, by powers of two: it has the same solutions to the last bit."""

from __future__ import annotations

import copy
import math

import numpy as np

from relaxon.core.scaling import SAFE_EXPONENT, exponent_of
from relaxon.solvers.grid.arguments import Kappa
from relaxon.solvers.grid.faces import face_coefficients
from relaxon.solvers.grid.poisson_grid import PoissonGrid, Robin
from relaxon.solvers.grid.sides import Side


def scale_grid(grid: PoissonGrid) -> tuple[PoissonGrid, int]:
    """Return a grid whose operator times `2^exponent` is that of `grid`, and that exponent.

    The grid itself, and 0, where the largest `κ/h²` is not extreme.
    """
    inverse_square = max(h**-2 for h in grid.mean_spacing)
    sigma = None if grid.reaction is None else float(np.max(grid.reaction))
    exponents = exponents_of(inverse_square, largest_coefficient(grid.coefficient), sigma)
    return (grid, 0) if exponents is None else scale_by(grid, exponents)


def exponents_of(inverse_square: float, kappa: float, sigma: float | None) -> tuple[int, int] | None:
    """Return the exponents of 1/h² and κ, each the largest of the grid; None where the operator is not extreme."""
    exponents = exponent_of(inverse_square), exponent_of(kappa)
    if sigma is not None:
        # Where σ is larger than κ/h², its size is the operator's.
        exponents = exponents[0], max(exponents[1], exponent_of(sigma) - exponents[0])
    return None if abs(sum(exponents)) <= SAFE_EXPONENT else exponents


def scale_by(grid: PoissonGrid, exponents: tuple[int, int]) -> tuple[PoissonGrid, int]:
    """Return a grid scaled by the exponents of 1/h² and κ, and what its operator's exponent is."""
    halved = exponents[0] // 2
    own = copy.copy(grid)
    own.__dict__.pop("_operator_parts", None)
    own.spacing = tuple(
        np.ldexp(h, halved) if isinstance(h, np.ndarray) else math.ldexp(h, halved) for h in grid.spacing
    )
    if grid.coefficient is None and exponents[1] == 1:
        exponents = exponents[0], 0  # κ = 1 is left alone
    if grid.reaction is not None:
        own.reaction = np.ldexp(grid.reaction, -2 * halved - exponents[1])
    own.boundary = tuple(
        tuple(_scale_side(side, -halved - exponents[1]) for side in pair)  # type: ignore[misc]
        for pair in grid.boundary
    )
    if not exponents[1]:
        return own, 2 * halved
    if isinstance(grid.coefficient, np.ndarray):
        own.coefficient = np.ldexp(grid.coefficient, -exponents[1])
    else:
        own.coefficient = tuple(np.ldexp(face, -exponents[1]) for face in face_coefficients(grid))
    return own, 2 * halved + exponents[1]


def _scale_side(side: Side, exponent: int) -> Side:
    return Robin(np.ldexp(side.h, exponent)) if isinstance(side, Robin) else side


def largest_coefficient(coefficient: Kappa) -> float:
    """Return the largest κ of cells or faces, 1 where none is given."""
    if coefficient is None:
        return 1.0
    if isinstance(coefficient, tuple):
        return max(float(face.max()) for face in coefficient)
    return float(coefficient.max())
