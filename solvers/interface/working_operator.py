"""The operator that a grid is solved with: scaled to ordinary size, without the cells that their diagonal decides."""

# Imported on first use, for their weight: `solvers.grid.verdict_kernels`, `solvers.kernels.compiled`.

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.operator import Planes, PoissonOperator
from relaxon.solvers.grid.scaled import scale_grid
from relaxon.solvers.interface.elimination import GridElimination
from relaxon.solvers.interface.verdict import Figures

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WorkingOperator:
    """The operator that is solved for a caller's.

    `operator` times `2^exponent` is the caller's; unless κ/h² is extreme they are the same, and the exponent is 0.
    `left` is the operator of the cells that remain when decided ones are eliminated; `operator` if there are none.
    """

    operator: PoissonOperator
    left: PoissonOperator
    exponent: int
    elimination: GridElimination | None

    @classmethod
    def of(cls, operator: PoissonOperator) -> WorkingOperator:
        """Scale a float64 operator, look for decided cells and find the null vectors; this is part of the set-up."""
        grid, exponent = scale_grid(operator.grid)
        operator = operator if grid is operator.grid else grid.operator()
        operator.grid.nullspace  # noqa: B018  computed here so that it counts as set-up
        elimination = GridElimination.of(operator)
        left = operator if elimination is None else elimination.grid.operator()
        left.grid.nullspace  # noqa: B018
        return cls(operator, left, exponent, elimination)

    def figures(self, b: Array, x: Array) -> Figures:
        """Return the figures of an `x`; both `shape3` float64, zero outside the fluid."""
        if self.operator.constant:
            return constant_figures(self.operator.planes, self.operator.planes.cells, b, x)
        return self._variable_figures(b, x)

    def _variable_figures(self, b: Array, x: Array) -> Figures:
        from relaxon.solvers.grid import verdict_kernels as kernels
        from relaxon.solvers.kernels.compiled import divided_sums, threads_for

        operator, elimination = self.operator, self.elimination
        gone = np.zeros(x.shape, bool) if elimination is None else elimination.decided
        side = b if elimination is None else elimination.side(b, x).reshape(x.shape)
        rows, n2 = x.shape[0] * x.shape[1], x.shape[2]
        worst = np.empty(rows)
        sums = divided_sums(
            kernels.variable_figures, rows, 5, b, side, x, operator.diagonal, *operator.couplings, operator.wrap, gone,
            worst, chunks=threads_for(x.size), work=lambda: (np.empty((2, n2)),),
        )  # fmt: skip
        residual, scaled, scaled_side, left, left_side = (math.sqrt(total) for total in sums)
        return Figures(residual, float(worst.max()), scaled, scaled_side, left, left_side)


def constant_figures(planes: Planes, owned: tuple[int, int, int, int], b: Array, x: Array) -> Figures:
    """Return the figures of an `x` for κ = 1, over the cells `owned`."""
    from relaxon.solvers.grid import verdict_kernels as kernels
    from relaxon.solvers.kernels.compiled import divided_sums, threads_for

    code, table, linear, w, wrap = planes.matrix
    n0, n1, n2 = planes.shape
    worst = np.empty(n0)
    (square,) = divided_sums(
        kernels.constant_figures, n0, 1, b.reshape(n0, n1 * n2), x.reshape(n0, n1 * n2), n2, planes.unit,
        code.reshape(n0, n1 * n2), table, linear, w, -w, wrap, owned, worst,
        chunks=threads_for(x.size), work=lambda: (np.zeros((7, n1 * n2)),),
    )  # fmt: skip
    return Figures(math.sqrt(square), float(worst.max()))
