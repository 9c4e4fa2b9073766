"""The constant null vectors of a Poisson operator: one for each fluid component that nothing holds."""

# Imported on first use, for their weight: `label_kernels`, `stencil_kernels`.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.couplings import open_faces, side_couplings
from relaxon.solvers.grid.neighbours import dirichlet_cells
from relaxon.solvers.grid.sides import Boundary, Robin

if TYPE_CHECKING:
    from relaxon.solvers.grid.poisson_grid import PoissonGrid

CONSISTENCY = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}
"""A right-hand side counts as consistent where each component's sum is below this fraction of its sum of magnitudes:
about a hundred times the rounding of a divergence computed in that precision."""
NEXT_TO_NOTHING = 1e-4
"""The sum over a component is compared with at least this part of the mean magnitude of `b` times its cells."""


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

    def without(self, kept: NDArray[np.int64]) -> NullSpace:
        """Return the null space on the unknowns `kept` of a matrix, whose others lie in no singular component."""
        if self.labels is None:
            return self
        sizes = self.sizes.copy()
        sizes[0] -= self.labels.size - len(kept)
        return NullSpace(self.labels.reshape(-1)[kept].reshape(1, 1, -1), sizes)

    @classmethod
    def of(cls, grid: PoissonGrid, *, holding_by_little: bool = True) -> NullSpace:
        """Return the components that nothing holds; without `holding_by_little`, those that nothing but a reaction or a
        Robin side does as well.
        """
        from relaxon.solvers.grid import label_kernels as kernels

        reaction = grid.reaction if holding_by_little else None
        if isinstance(reaction, float):
            return cls(None, np.zeros(1, np.int64))
        wrap = grid.operator().wrap
        cells, fluid = grid.cells.reshape(grid.shape3), grid.fluid.reshape(grid.shape3)
        held = np.empty(grid.shape3, bool)
        if closes_faces(grid):
            labels, sizes = _by_faces(grid, reaction, holding_by_little)
            return cls(labels if len(sizes) > 1 else None, sizes)
        dirichlet_cells(cells, _holding_sides(grid), wrap, held)
        if holding_by_little:
            _add_little(grid, reaction, held)
        *runs, component, sizes = kernels.components(fluid, held, wrap)
        if len(sizes) == 1:
            return cls(None, sizes)
        labels = np.zeros(grid.shape3, np.int32)
        kernels.paint(*runs, component, labels)
        return cls(labels, sizes)

    def defect(self, b: NDArray[Any]) -> tuple[float, int]:
        """Return the largest |Σ b| / Σ |b| over the singular components, and the component where it occurs."""
        if self.labels is None:
            return 0.0, 0
        sums, magnitudes = self._sums(b)
        # A component that holds next to nothing of `b` holds rounding, which need not sum to zero.
        typical = self._mean_magnitude(b)
        floor = NEXT_TO_NOTHING * typical * self.sizes
        ratio = np.abs(sums) / np.maximum(np.maximum(magnitudes, floor), np.finfo(np.float64).tiny)
        worst = int(ratio.argmax())
        return float(ratio[worst]), worst

    def describe(self, number: int) -> str:
        """Return a description of a singular component, for people."""
        return f"fluid component {number} ({self.sizes[number]} cells, no Dirichlet face)"

    def project(self, v: NDArray[Any]) -> NDArray[Any]:
        """Subtract each singular component's mean in place, and return `v` (`shape3`, any float dtype)."""
        if self.labels is not None:
            from relaxon.solvers.grid import stencil_kernels

            means = (self._sums(v)[0] / np.maximum(self.sizes, 1)).astype(v.dtype)
            means[0] = 0
            stencil_kernels.subtract_component_means(v, self.labels, means)
        return v

    def sums(self, v: NDArray[Any]) -> NDArray[np.float64]:
        """Return each component's sum of `v` (`shape3`), `(dimension + 1,)`; 0 at index 0."""
        return self._sums(v)[0]

    def _mean_magnitude(self, b: NDArray[Any]) -> float:
        return float(np.abs(b).sum(dtype=np.float64)) / b.size

    def _sums(self, v: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from relaxon.solvers.grid import stencil_kernels

        sums, magnitudes = np.zeros(len(self.sizes)), np.zeros(len(self.sizes))
        stencil_kernels.component_sums(v, self.labels, sums, magnitudes)
        return sums, magnitudes


def closes_faces(grid: PoissonGrid) -> bool:
    """Return whether κ closes faces that would be open."""
    return isinstance(grid.coefficient, tuple) and not all(face.all() for face in grid.coefficient)


def _holding_sides(grid: PoissonGrid) -> NDArray[np.bool_]:
    """Return which sides of each axis hold a value, on their face or on a node: `(3, 2)`."""
    holding = np.zeros((3, 2), bool)
    kinds = (Boundary.DIRICHLET, Boundary.DIRICHLET_NODE)
    holding[3 - grid.ndim :] = [[side in kinds for side in pair] for pair in grid.boundary]
    return holding


def _add_little(grid: PoissonGrid, reaction: NDArray[np.float64] | None, held: NDArray[np.bool_]) -> None:
    """Add the cells that a reaction or a Robin side holds, in place; κ closes no face."""
    if reaction is not None:
        held |= (reaction > 0).reshape(held.shape)
    shaped = held.reshape(grid.shape)
    for axis, pair in enumerate(grid.boundary):
        for end, side in zip((0, -1), pair, strict=True):
            if isinstance(side, Robin):
                np.moveaxis(shaped, axis, 0)[end] |= np.asarray(side.h) > 0
    shaped &= grid.fluid


def _by_faces(
    grid: PoissonGrid, reaction: NDArray[np.float64] | None, holding_by_little: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return labels and sizes of the components, joined through open faces only."""
    from relaxon.solvers.grid import label_kernels as kernels

    fluid = grid.fluid.reshape(grid.shape3)
    faces = open_faces(grid)
    held = np.zeros(grid.shape3, bool)
    for side in side_couplings(grid):
        if holding_by_little or not side.by_film:
            held[side.layer] |= side.values > 0
    for axis, face in enumerate(faces):
        # Between the fluid and AIR: the cell on either side is held where it is fluid.
        held |= (face > 0) & ~np.roll(fluid, 1, axis)
        held |= np.roll((face > 0) & ~fluid, -1, axis)
    if reaction is not None:
        held |= (reaction > 0).reshape(held.shape)
    return kernels.label_by_faces(fluid, held & fluid, faces)
