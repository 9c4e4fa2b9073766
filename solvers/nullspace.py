"""The constant null vectors of a Poisson operator: one for each fluid component that no Dirichlet face holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from relaxon.solvers.grid import PoissonGrid

# A right-hand side counts as consistent where each component's sum is below this fraction of its sum of
# magnitudes: some hundred times the rounding of a divergence computed in that precision.
CONSISTENCY = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}


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
        from scipy import ndimage

        fluid = grid.fluid.reshape(grid.shape3)
        labels, count = ndimage.label(fluid, output=np.int32)
        labels = _joined_across_periodic_sides(labels, count, (False,) * (3 - grid.ndim) + grid.periodic)
        held = np.zeros(labels.max() + 1, bool)
        held[np.unique(labels[_dirichlet_cells(grid)])] = True
        held[0] = True
        number = np.where(held, 0, np.cumsum(~held)).astype(np.int32)
        if held.all():
            return cls(None, np.zeros(1, np.int64))
        singular = number[labels]
        return cls(singular, np.bincount(singular.ravel(), minlength=int(number.max()) + 1))

    def defect(self, b: NDArray[Any]) -> tuple[float, int]:
        """The largest |Σ b| / Σ |b| over the singular components, and the component it stands in."""
        if self.labels is None:
            return 0.0, 0
        sums, magnitudes = self._sums(b)
        ratio = np.abs(sums) / np.where(magnitudes > 0, magnitudes, 1.0)
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

    def _sums(self, v: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from relaxon.solvers import stencil_kernels

        sums, magnitudes = np.zeros(len(self.sizes)), np.zeros(len(self.sizes))
        stencil_kernels.component_sums(v, self.labels, sums, magnitudes)
        return sums, magnitudes


def _joined_across_periodic_sides(
    labels: NDArray[np.int32], count: int, periodic: tuple[bool, ...]
) -> NDArray[np.int32]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = []
    for axis, wraps in enumerate(periodic):
        if wraps:
            first, last = labels.take(0, axis).ravel(), labels.take(-1, axis).ravel()
            both = (first > 0) & (last > 0)
            pairs.append(np.unique(np.stack([first[both], last[both]]), axis=1))
    if not pairs:
        return labels
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count + 1, count + 1))
    _, joined = connected_components(graph, directed=False)
    # Background is component 0 of the graph because it is vertex 0 and has no edge.
    merged: NDArray[np.int32] = joined.astype(np.int32)[labels]
    return merged


def _dirichlet_cells(grid: PoissonGrid) -> NDArray[np.bool_]:
    """Fluid cells with an AIR neighbour or at a Dirichlet side: `shape3 bool`."""
    from relaxon.solvers.grid import Boundary, CellType

    air = grid.cells == CellType.AIR
    touches = np.zeros(grid.shape, bool)
    for axis, (low, high) in enumerate(grid.boundary):
        n = grid.shape[axis]
        first, last = _slab(axis, 0, 1), _slab(axis, n - 1, n)
        below, above = _slab(axis, 0, n - 1), _slab(axis, 1, n)
        touches[above] |= air[below]
        touches[below] |= air[above]
        if low is Boundary.PERIODIC:
            touches[first] |= air[last]
            touches[last] |= air[first]
        if low is Boundary.DIRICHLET:
            touches[first] = True
        if high is Boundary.DIRICHLET:
            touches[last] = True
    result: NDArray[np.bool_] = (touches & grid.fluid).reshape(grid.shape3)
    return result


def _slab(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)
