"""The operators of the single axes, of which a box's operator is a sum of products.

On a box `A = K₀⊗M₁⊗M₂ + M₀⊗K₁⊗M₂ + M₀⊗M₁⊗K₂`, with `K` symmetric and tridiagonal (cyclic on a periodic axis) and `M`
diagonal and positive, where κ and the rows' weights are products of functions of one axis each. A reaction in
proportion to the `M` is a multiple of `M₀` added to `K₀`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.operator import PoissonOperator

Array = NDArray[np.float64]
SAME = 1e-10
"""A matrix whose entries differ from a sum of products by at most this part of themselves counts as that sum. What is
computed with the sum is refined with the matrix itself."""


class NotSeparableError(ValueError):
    """The operator is no sum of products along the axes; the message says why."""


@dataclass(frozen=True, slots=True)
class Axis:
    """`K` and `M` of one axis of `n` cells.

    `diagonal` is that of `K`; `−coupling[i]` is its entry between cells `i − 1` and `i`, that of index 0 between the
    last cell and the first; `weight` is the diagonal of `M`. All `(n,) float64`.
    """

    diagonal: Array
    coupling: Array
    weight: Array

    @property
    def size(self) -> int:
        return len(self.diagonal)

    @property
    def cyclic(self) -> bool:
        """Whether the first and the last cell are coupled to one another and no neighbours otherwise."""
        return bool(self.coupling[0] != 0.0)

    @property
    def excess(self) -> Array:
        """What the diagonal has beyond the row's couplings: sides, and a reaction."""
        excess: Array = self.diagonal - self.coupling - np.roll(self.coupling, -1)
        return excess


def axes_of(operator: PoissonOperator) -> tuple[Axis, Axis, Axis]:
    """Return the operators of the three axes of `shape3`; NotSeparableError, saying why, where there are none."""
    grid = operator.grid
    if grid.unknowns < grid.cells.size:
        other = grid.cells.size - grid.unknowns
        raise NotSeparableError(f"all cells must be unknowns, {other} of {grid.cells.size} are solid, air or decided")
    axes = _constant_axes(operator) if operator.constant else factor_axes(operator.couplings, operator.diagonal)
    if grid.nullspace.dimension > 1:
        raise NotSeparableError(f"closed faces part the grid into {grid.nullspace.dimension} components")
    return axes


def _constant_axes(operator: PoissonOperator) -> tuple[Axis, Axis, Axis]:
    """Return the axes for κ = 1 and equal widths, from the grid's sides."""
    found = []
    for n, weight, (low, high), around in zip(
        operator.grid.shape3, operator.weights, operator.sides, operator.wrap, strict=True
    ):
        coupling = np.full(n, float(weight))
        if not around:
            coupling[0] = 0.0
        diagonal = coupling + np.roll(coupling, -1)
        diagonal[0] += 2.0 * weight * low
        diagonal[-1] += 2.0 * weight * high
        found.append(_plain_pair(Axis(diagonal, coupling, np.ones(n))))
    return found[0], found[1], found[2]


def factor_axes(couplings: Sequence[Array], diagonal: Array) -> tuple[Axis, Axis, Axis]:
    """Return the axes of a matrix from its couplings to the cell below along each axis and its diagonal, `shape3` each.

    Raises
    ------
    NotSeparableError : the matrix is no such sum.
    """
    weights = [_weight(couplings, axis) for axis in range(3)]
    along = [_coupling(lower, weights, axis) for axis, lower in enumerate(couplings)]
    for axis, lower in enumerate(couplings):
        one, two, three = (along[axis] if other == axis else weights[other] for other in range(3))
        if not _agree(lower, one, np.outer(two, three)):
            raise NotSeparableError(f"the coefficients along axis {axis} are no product of functions of one axis each")
    parts = _diagonal_parts(diagonal, weights)
    return _balance([Axis(d * w, c, w) for d, w, c in zip(parts, weights, along, strict=True)])


def _diagonal_parts(diagonal: Array, weights: list[Array]) -> list[Array]:
    """Return three functions of one axis each whose sum, times the product of the weights, is the diagonal.

    They are read off where the sum is least, as differences of large ones would leave rounding of the small ones.
    """
    first, second, third = weights
    sums = [plane / (weight * np.outer(second, third)) for plane, weight in zip(diagonal, first, strict=True)]
    at = np.unravel_index(int(np.argmin(sums)), diagonal.shape)
    parts = [np.array([plane[at[1], at[2]] for plane in sums]), sums[at[0]][:, at[2]], sums[at[0]][at[1]]]
    parts = [parts[0], parts[1] - parts[1][at[1]], parts[2] - parts[2][at[2]]]
    face, beside = np.outer(second, third), parts[1][:, None] + parts[2]
    if not _agree(diagonal, first, face * beside, first * parts[0], face):
        raise NotSeparableError("the diagonal (reaction and sides) is no sum of such products")
    return parts


def _balance(axes: list[Axis]) -> tuple[Axis, Axis, Axis]:
    """Give what all cells have alike beyond their couplings to the first axis: parts of it may stand at any."""
    total = 0.0
    found = []
    for axis in axes:
        least = float((axis.excess / axis.weight).min())
        total += least
        found.append(replace(axis, diagonal=axis.diagonal - least * axis.weight))
    found[0] = replace(found[0], diagonal=found[0].diagonal + max(total, 0.0) * found[0].weight)
    one, two, three = (_plain_pair(axis) for axis in found)
    return one, two, three


def _plain_pair(axis: Axis) -> Axis:
    """Merge the two couplings of two cells around a periodic axis into one that is the sum of both."""
    if axis.size != 2 or not axis.cyclic:
        return axis
    return replace(axis, coupling=np.array([0.0, axis.coupling.sum()]))


def _weight(couplings: Sequence[Array], axis: int) -> Array:
    """`M` along an axis, as the couplings along another one vary with it; 1 where there are none."""
    for other, lower in enumerate(couplings):
        if other == axis or not lower.any():
            continue
        line = _line(lower, axis, np.unravel_index(int(lower.argmax()), lower.shape))
        if not (line > 0).all():
            raise NotSeparableError(f"the coefficients along axis {other} are no product of functions of one axis each")
        line /= line[0]
        return line
    return np.ones(couplings[axis].shape[axis])


def _coupling(lower: Array, weights: list[Array], axis: int) -> Array:
    """Return the couplings along an axis, where they are greatest across it, without the weights of the others."""
    at = np.unravel_index(int(lower.argmax()), lower.shape)
    others = [weights[other][at[other]] for other in range(3) if other != axis]
    found: Array = _line(lower, axis, at) / (others[0] * others[1])
    return found


def _line(array: Array, axis: int, at: Sequence[np.intp | int]) -> Array:
    index = tuple(slice(None) if other == axis else at[other] for other in range(3))
    return np.array(array[index])


def _agree(values: Array, first: Array, face: Array, second: Array | float = 0.0, other: Array | float = 0.0) -> bool:
    """Return whether plane `i` is `first[i] · face + second[i] · other`; first for two planes, at which most fail."""
    n = len(values)
    scale = np.broadcast_to(second, n)
    for i in dict.fromkeys((0, n // 2, *range(n))):
        beside = np.abs(values[i] - (first[i] * face + scale[i] * other))
        if not (beside <= SAME * np.abs(values[i])).all():
            return False
    return True
