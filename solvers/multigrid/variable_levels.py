"""The levels of the V-cycle for any coefficients, and their set-up from cell types and faces."""

# Imported on first use, for their weight: the compiled kernels (numba).
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.poisson_grid import FLUID
from relaxon.solvers.multigrid.coarsening import coarsen_side, coarsen_types
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.swept import BEYOND_RANGE, FaceSweeps, SweptLevel, chebyshev_dampings
from relaxon.solvers.multigrid.transfers import (
    axes_to_halve,
    axis_weights,
    coarsen_shape,
    coarsest_inverse,
    is_coarsest,
)

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.sweeps import FaceOperator
    from relaxon.solvers.multigrid.variable_kernels import CouplingTransfer

Smoother = Literal["jacobi", "red-black"]
REACTING = 5
"""The arrays of a stage with a reaction: faces along three axes, couplings to sides, and the reaction's term."""
NEGLIGIBLE_TERM = np.float32(1e-8)
"""A coarse cell's reaction below this part of the diagonals that it is gathered with counts as 0: it may be rounding
from beyond a wall, and yet be all that holds a component. What is held by so little is solved for apart."""
LEAST_INSIDE = np.float32(0.05)
"""Where less than this part of a cell's interpolation comes from cells that are not SOLID, it is left as it is."""


@dataclass(slots=True)
class VariableLevel(FaceSweeps, SweptLevel):
    """One level: its operator, the transfer to the next level, and work arrays; the last has `index` and `inverse`."""

    operator: FaceOperator
    coloured: int = 0
    """The number of Gauss–Seidel sweeps in two colours; 0 for damped Jacobi sweeps."""
    transfer: CouplingTransfer | None = None
    share: Single | None = None
    """What the interpolation is multiplied by where a part of it comes from SOLID cells."""
    index: NDArray[np.int64] | None = None
    inverse: Single | None = None

    @property
    def couplings(self) -> tuple[Single, Single, Single]:
        """The couplings to the cell below along each axis."""
        return self.operator.lower0, self.operator.lower1, self.operator.lower2

    @BEYOND_RANGE
    def solve(self) -> None:
        assert self.inverse is not None
        self.x.reshape(-1)[self.index] = self.inverse @ self.r.reshape(-1)[self.index]

    def smooth_from_zero(self) -> None:
        if self.coloured:
            self.x[...] = 0
            self._sweep_colours((0, 1))
        else:
            SweptLevel.smooth_from_zero(self)

    def smooth_to_residual(self) -> None:
        (SweptLevel if self.coloured else FaceSweeps).smooth_to_residual(self)

    def smooth(self) -> None:
        if self.coloured:
            self._sweep_colours((1, 0))
        else:
            FaceSweeps.smooth(self)

    def _sweep_colours(self, order: tuple[int, int]) -> None:
        from relaxon.solvers.multigrid import sweeps

        for colour in order * self.coloured:
            sweeps.colour_sweep(self.x, self.r, self.inverse_diagonal, colour, self.operator)

    @property
    def residual_weight(self) -> Single:
        assert self.share is not None
        return self.share

    def restrict(self, below: Any) -> None:
        from relaxon.solvers.multigrid import variable_kernels as kernels

        assert self.transfer is not None
        kernels.restrict(self.work, self.transfer, below.diagonal, below.r)

    def correct(self, below: Any) -> None:
        from relaxon.solvers.multigrid import variable_kernels as kernels

        assert self.transfer is not None
        kernels.prolong(below.x, np.float32(0), self.transfer, self.share, True, self.x)


@dataclass(frozen=True, slots=True)
class VariableStage:
    """The state of the set-up: what the next level is made from. Its arrays are overwritten."""

    cells: NDArray[np.uint8]
    """Cell types."""
    faces: list[Single]
    """Open faces below the cells along three axes, couplings to sides `(3, …)`, and the reaction's term if there is
    one."""
    inside: NDArray[np.float64]
    """See `variable.inside_parts`."""
    least: Single | None = None
    """A lower bound of the diagonal without the reaction's term."""


class VariableLevelBuilder:
    """Builds the levels of one grid, or of a process's part of it.

    Parameters
    ----------
    wrap : the axes that are periodic, `(3,)`.
    every : whether all faces of a Dirichlet side are held.
    parted : whether faces may be closed, or there may be a reaction, so that a coarse cell may have next to no
        couplings.
    """

    def __init__(
        self, wrap: NDArray[np.bool_], ndim: int, every: bool, parted: bool, smoother: Smoother, sweeps: int
    ) -> None:
        self.wrap = wrap
        self._every, self._parted = every, parted
        self._dampings = [np.float32(v) for v in chebyshev_dampings(ndim, sweeps)]
        self._smoother, self._sweeps = smoother, sweeps

    def build(self, stage: VariableStage) -> list[VariableLevel]:
        """Return the levels from a stage down to the one that is solved exactly."""
        found: list[VariableLevel] = []
        while True:
            diagonal, couplings = self.make_diagonal(stage)
            halved = axes_to_halve(stage.cells.shape, _mean_couplings(stage.faces))
            if is_coarsest(diagonal) or not any(halved):
                level = self._make_level(stage.faces, diagonal)
                level.index, level.inverse = coarsest_inverse(
                    diagonal.astype(np.float64), level.couplings, diagonal != 0
                )
                return [*found, level]
            level, stage = self.coarsen(stage, diagonal, couplings, halved)
            found.append(level)

    def make_diagonal(
        self, stage: VariableStage, exchange: Callable[[Single], None] | None = None
    ) -> tuple[Single, Single]:
        """Return the level's diagonal, and the same without the reaction's term.

        `exchange` brings the cells that belong to other processes up to date.
        """
        from relaxon.solvers.multigrid import setup_kernels as kernels

        cells, faces = stage.cells, stage.faces
        diagonal = np.empty(cells.shape, np.float32)
        kernels.finish(cells, faces[0], faces[1], faces[2], faces[3], self.wrap, diagonal)
        if exchange is not None:
            exchange(diagonal)
        if stage.least is not None:
            np.maximum(diagonal, stage.least, out=diagonal, where=cells == FLUID)
        couplings = diagonal
        if len(faces) == REACTING:
            couplings = diagonal.copy()
            np.add(diagonal, faces[4], out=diagonal, where=cells == FLUID)
        return diagonal, couplings

    def coarsen(
        self, stage: VariableStage, diagonal: Single, couplings: Single, halved: list[bool]
    ) -> tuple[VariableLevel, VariableStage]:
        """Return the level with its transfer, and the stage below; the arguments are what `make_diagonal` gave."""
        from relaxon.solvers.multigrid import reach_kernels

        steps, shape = coarsen_shape(stage.cells.shape, halved)
        faces, far = self._coarsen_faces(stage, halved, steps, shape)
        cells = np.empty(shape, np.uint8)
        coarsen_types(stage.cells, steps, cells)
        inside = np.where(np.array(halved)[:, None], 2 * stage.inside / (1 + stage.inside), stage.inside)
        level = self._make_level(stage.faces, diagonal)
        self._add_transfer(level, far, halved, steps, cells)
        faces += [self._coarsen_term(level, term, cells) for term in stage.faces[4:]]
        least: Single | None = None
        if self._parted:
            assert level.share is not None
            assert level.transfer is not None
            least = np.empty(shape, np.float32)
            reach_kernels.least_diagonal(couplings * level.share**2, level.transfer, least)
        return level, VariableStage(cells, faces, inside, least)

    def _make_level(self, faces: list[Single], diagonal: Single) -> VariableLevel:
        from relaxon.solvers.multigrid import setup_kernels as kernels
        from relaxon.solvers.multigrid.sweeps import FaceOperator

        operator = FaceOperator(diagonal, faces[0], faces[1], faces[2], self.wrap)
        kernels.keep_unknowns(*operator[:4])
        for axis, lower in enumerate(operator[1:4]):
            if not self.wrap[axis]:  # a process's part may have faces to cells that it does not have
                np.moveaxis(lower, axis, 0)[0] = 0
        with np.errstate(over="ignore"):  # of κ beyond float32's range: the solve's end says so
            inverse = np.divide(np.float32(1), diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        x, r, work = (np.zeros(diagonal.shape, np.float32) for _ in range(3))
        # Around an odd periodic axis two cells of one colour are neighbours: damped Jacobi takes over there.
        odd_ring = any(w and n % 2 == 1 and n > 1 for w, n in zip(self.wrap, diagonal.shape, strict=True))
        coloured = self._sweeps if self._smoother == "red-black" and not odd_ring else 0
        return VariableLevel(diagonal, inverse, x, r, work, self._dampings, operator, coloured)

    def _coarsen_faces(
        self, stage: VariableStage, halved: list[bool], steps: NDArray[np.int64], shape: tuple[int, ...]
    ) -> tuple[list[Single], list[Single]]:
        """Return the coarse level's faces and couplings to sides, and the far weights of the fine cells by axis."""
        from relaxon.solvers.multigrid import variable_kernels as kernels

        cells, faces, inside = stage.cells, stage.faces, stage.inside
        coarse = [np.empty(shape, np.float32) for _ in range(3)]
        coarse.append(np.empty((3, *shape), np.float32))
        far = [np.zeros(cells.shape, np.float32) for _ in range(3)]
        # On the way from a coarse cell's centre to a value beyond a side the fine one's lies so far on.
        beyond = (inside / (1 + inside)).astype(np.float32)
        for axis in range(3):
            wrap = bool(self.wrap[axis])
            kernels.coarsen_axis_faces(faces[axis], axis, halved[axis], steps, wrap, coarse[axis])
            if halved[axis]:
                kernels.far_weights(faces[axis], cells, faces[3], self._every, axis, wrap, *beyond[axis], far[axis])
        near = np.where(np.array(halved)[:, None], 1 / (1 + inside), 1.0).astype(np.float32)
        coarsen_side(faces[3], steps, near, coarse[3])
        return coarse, far

    def _coarsen_term(self, level: VariableLevel, term: Single, coarse_cells: NDArray[np.uint8]) -> Single:
        """Return a reaction's term on the coarse level: `Pᵀ` of the fine one times the share."""
        from relaxon.solvers.multigrid import variable_kernels as kernels

        assert level.share is not None
        assert level.transfer is not None
        kept = np.where(level.diagonal != 0, term, np.float32(0)) * level.share
        coarse, ones, around = (np.zeros(coarse_cells.shape, np.float32) for _ in range(3))
        ones.fill(1.0)
        kernels.restrict(kept, level.transfer, ones, coarse)
        kernels.restrict(level.diagonal * level.share, level.transfer, ones, around)
        coarse[coarse < NEGLIGIBLE_TERM * around] = 0
        return coarse

    def _add_transfer(
        self,
        level: VariableLevel,
        far: list[Single],
        halved: list[bool],
        steps: NDArray[np.int64],
        coarse_cells: NDArray[np.uint8],
    ) -> None:
        from relaxon.solvers.multigrid import variable_kernels as kernels

        axes: list[Any] = []  # own and other coarse cell and far weight, axis by axis
        for n, h, w, weights in zip(level.shape, halved, self.wrap, far, strict=True):
            axis = axis_weights(n, h, bool(w), (False, False))
            other = axis.other.copy()
            if h and not w:
                other[0] = -1
                if n % 2 == 0:
                    other[-1] = -1
            axes += [axis.own, other, weights]
        level.transfer = kernels.CouplingTransfer._make([*axes, steps, self.wrap])
        opened = (coarse_cells != 1).astype(np.float32)
        inside, ones = level.work, (level.diagonal != 0).astype(np.float32)
        kernels.prolong(opened, np.float32(1), level.transfer, ones, False, inside)
        # One over it where there are unknowns, 1 where nothing is inside.
        ones.fill(1.0)
        level.share = np.divide(1, inside, out=ones, where=inside > LEAST_INSIDE)
        level.share[level.diagonal == 0] = 0
        inside[...] = 0


def _mean_couplings(faces: list[Single]) -> list[float]:
    """Return the mean of the open faces along each axis."""
    return [float(face.sum(dtype=np.float64)) / max(int(np.count_nonzero(face)), 1) for face in faces[:3]]
