"""The constant null vectors of a Poisson operator: one for each fluid component that no Dirichlet face holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.neighbours import dirichlet_cells

if TYPE_CHECKING:
    from relaxon.solvers.grid import PoissonGrid

# A right-hand side counts as consistent where each component's sum is below this fraction of its sum of
# magnitudes: some hundred times the rounding of a divergence computed in that precision.
CONSISTENCY = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}


NEXT_TO_NOTHING = 1e-4
"""Sources of a component are compared with at least this part of what `b` holds on average."""


@dataclass(frozen=True, slots=True)
class NullSpace:
    """Singular components of a grid.

    `labels` is `(n0, n1, n2) int32` with 1 … dimension inside singular components and 0 elsewhere, or None where
    there are none; `sizes[c]` is the number of cells of component `c`.
    """

    labels: NDArray[np.int32] | None
    sizes: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        return len(self.sizes) - 1

    @classmethod
    def of(cls, grid: PoissonGrid) -> NullSpace:
        from relaxon.solvers import label_kernels as kernels

        operator = grid.operator()
        cells, fluid = grid.cells.reshape(grid.shape3), grid.fluid.reshape(grid.shape3)
        held = np.empty(grid.shape3, bool)
        dirichlet_cells(cells, operator.sides, operator.wrap, held)
        *runs, component, sizes = kernels.components(fluid, held, operator.wrap)
        if len(sizes) == 1:
            return cls(None, sizes)
        labels = np.zeros(grid.shape3, np.int32)
        kernels.paint(*runs, component, labels)
        return cls(labels, sizes)

    def defect(self, b: NDArray[Any]) -> tuple[float, int]:
        """The largest |Σ b| / Σ |b| over the singular components, and the component it stands in."""
        if self.labels is None:
            return 0.0, 0
        sums, magnitudes = self._sums(b)
        # A component that holds next to nothing of `b` holds rounding, which need not sum to zero.
        typical = self._mean_magnitude(b)
        floor = NEXT_TO_NOTHING * typical * self.sizes
        ratio = np.abs(sums) / np.maximum(np.maximum(magnitudes, floor), np.finfo(np.float64).tiny)
        worst = int(ratio.argmax())
        return float(ratio[worst]), worst

    def project(self, v: NDArray[Any]) -> NDArray[Any]:
        """Subtract, in place, each singular component's mean; returns `v` (`shape3`, any float dtype)."""
        if self.labels is not None:
            from relaxon.solvers import stencil_kernels

            means = (self._sums(v)[0] / np.maximum(self.sizes, 1)).astype(v.dtype)
            means[0] = 0
            stencil_kernels.subtract_component_means(v, self.labels, means)
        return v

    def _mean_magnitude(self, b: NDArray[Any]) -> float:
        return float(np.abs(b).sum(dtype=np.float64)) / b.size

    def _sums(self, v: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from relaxon.solvers import stencil_kernels

        sums, magnitudes = np.zeros(len(self.sizes)), np.zeros(len(self.sizes))
        stencil_kernels.component_sums(v, self.labels, sums, magnitudes)
        return sums, magnitudes
