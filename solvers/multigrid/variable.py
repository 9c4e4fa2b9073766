"""The V-cycle for any coefficients: transfers that follow the couplings, damped Jacobi or red-black sweeps, float32."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.cell_metrics import share_of
from relaxon.solvers.grid.couplings import by_layer, has_air, open_faces, reaction_term, side_couplings
from relaxon.solvers.grid.faces import conductances, face_coefficients, face_scales, films, slab
from relaxon.solvers.grid.nullspace import closes_faces
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import FLUID, Boundary, PoissonGrid, Robin
from relaxon.solvers.multigrid.coarsening import coarsen_side, coarsen_types
from relaxon.solvers.multigrid.single import Array, Single, SingleCycle
from relaxon.solvers.multigrid.transfers import axes_to_halve, axis_weights, coarsened, coarsest_inverse, is_coarsest

Smoother = Literal["jacobi", "red-black"]
REACTING = 5
"""Arrays of a level where there is a reaction: faces along three axes, couplings to sides, and the reaction's term."""

NEGLIGIBLE_TERM = np.float32(1e-8)
"""A coarse cell's reaction below this part of the diagonals that it is gathered with is nothing: it may have come by
rounding from beyond a wall, to be all that holds a component. What is held by so little is solved for apart.
"""
LEAST_INSIDE = np.float32(0.05)
"""Of a cell's interpolation, the part that comes from cells that are not SOLID: with less, it is left as it is."""


def chebyshev_dampings(ndim: int, sweeps: int) -> tuple[float, ...]:
    """Dampings of so many Jacobi sweeps that together damp the high frequencies best: `1/root` of the Chebyshev
    polynomial on the eigenvalues of `D⁻¹A` from `1/ndim` to 2, the largest root last.
    """
    low, high = 1.0 / ndim, 2.0
    angles = np.pi * (2 * np.arange(sweeps) + 1) / (2 * sweeps)
    roots = (high + low) / 2 + (high - low) / 2 * np.cos(angles)
    return tuple(float(1 / root) for root in sorted(roots))


@dataclass(slots=True)
class VariableLevel:
    """One level: couplings, the transfer to the next level, and work arrays; the last has `index` and `inverse`."""

    couplings: tuple[Single, Single, Single]
    diagonal: Single
    inverse_diagonal: Single
    x: Single
    r: Single
    work: Single
    own: tuple[NDArray[np.int32], ...] = ()
    other: tuple[NDArray[np.int32], ...] = ()
    far: tuple[Single, ...] = ()
    share: Single | None = None
    steps: Any = None
    index: NDArray[np.int64] | None = None
    inverse: Single | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.diagonal.shape

    @property
    def transfer(self) -> tuple[Any, ...]:
        """Own and other coarse cell and far weight, axis by axis."""
        return tuple(v for axis in zip(self.own, self.other, self.far, strict=True) for v in axis)


class VariableCycle(SingleCycle):
    """The preconditioner `z ← M r`: linear, symmetric and positive definite on the operator's range, to rounding.

    Parameters
    ----------
    smoother : "jacobi", with Chebyshev's dampings, or "red-black" (Gauss–Seidel in two colours; its adjoint order
        after the coarse correction).
    sweeps : before and after the coarse correction.
    """

    def __init__(self, operator: PoissonOperator, smoother: Smoother = "jacobi", sweeps: int = 2) -> None:
        grid = operator.grid
        self.shape = grid.shape3
        self.wrap = np.asarray(operator.wrap)
        self._inside = _inside_parts(grid)
        robin = any(isinstance(side, Robin) for pair in grid.boundary for side in pair)
        self._every = not (robin or closes_faces(grid))
        self._sweeps = sweeps
        dampings = chebyshev_dampings(grid.ndim, sweeps)
        self._before = [np.float32(v) for v in dampings]
        self._after = self._before[::-1]
        self._smoother = smoother
        self.levels, self.unit = self._built(operator)
        self.info = {
            "levels": float(len(self.levels)),
            "grid_complexity": sum(level.diagonal.size for level in self.levels) / self.levels[0].diagonal.size,
            "sweeps": float(sweeps),
        }

    def twin(self) -> VariableCycle:
        made = copy(self)
        made.levels = [
            replace(level, x=np.zeros_like(level.x), r=np.zeros_like(level.r), work=np.zeros_like(level.work))
            for level in self.levels
        ]
        return made

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        from relaxon.solvers.grid.stencil_kernels import scaled

        scaled(r, scale, self.levels[0].r)
        self._descend(0)
        return self.levels[0].x

    def _descend(self, depth: int) -> None:
        """`level.x ← M_level level.r`."""
        from relaxon.solvers.multigrid import sweeps
        from relaxon.solvers.multigrid import variable_kernels as kernels

        level = self.levels[depth]
        if level.inverse is not None:
            level.x.reshape(-1)[level.index] = level.inverse @ level.r.reshape(-1)[level.index]
            return
        below = self.levels[depth + 1]
        self._smooth(level, before=True)
        sweeps.shared_residual(level.x, level.r, level.share, level.diagonal, *level.couplings, self.wrap, level.work)
        kernels.restrict(level.work, *level.transfer, level.steps, self.wrap, below.diagonal, below.r)
        self._descend(depth + 1)
        kernels.prolong(below.x, np.float32(0), *level.transfer, level.share, True, level.x)
        self._smooth(level, before=False)

    def _smooth(self, level: VariableLevel, before: bool) -> None:
        from relaxon.solvers.multigrid import sweeps

        operator = (level.diagonal, *level.couplings, self.wrap)
        if self._smoother == "red-black" and not self._odd_ring(level):
            if before:
                level.x[...] = 0
            for _ in range(self._sweeps):
                for colour in (0, 1) if before else (1, 0):
                    sweeps.colour_sweep(level.x, level.r, level.inverse_diagonal, colour, *operator)
            return
        dampings = self._before if before else self._after
        if before:
            sweeps.first_sweep(level.r, dampings[0], level.inverse_diagonal, level.x)
            dampings = dampings[1:]
        for omega in dampings:
            sweeps.jacobi_sweep(level.x, level.r, omega, level.inverse_diagonal, *operator, level.work)
            level.x, level.work = level.work, level.x

    def _odd_ring(self, level: VariableLevel) -> bool:
        """Around an odd periodic axis two cells of one colour are neighbours: damped Jacobi takes over there."""
        return any(w and n % 2 == 1 and n > 1 for w, n in zip(self.wrap, level.shape, strict=True))

    def _built(self, operator: PoissonOperator) -> tuple[list[VariableLevel], float]:
        faces, unit = _single_faces(operator)
        cells = operator.grid.cells.reshape(self.shape).copy()  # the grid's are read-only: another type to kernels
        parted = closes_faces(operator.grid) or operator.grid.reaction is not None
        return self._levels(cells, faces, self._inside, None, parted), unit

    def _levels(
        self,
        cells: NDArray[np.uint8],
        faces: list[Single],
        inside: NDArray[np.float64],
        least: Single | None,
        parted: bool,
    ) -> list[VariableLevel]:
        """The levels from one on whose cell types and faces are given; these are used up."""
        from relaxon.solvers.multigrid import setup_kernels as kernels

        found: list[VariableLevel] = []
        while True:
            shape = cells.shape
            diagonal = np.empty(shape, np.float32)
            kernels.finish(cells, faces[0], faces[1], faces[2], faces[3], self.wrap, diagonal)
            if least is not None:
                np.maximum(diagonal, least, out=diagonal, where=cells == FLUID)
            couplings = diagonal
            if len(faces) == REACTING:
                couplings = diagonal.copy()
                np.add(diagonal, faces[4], out=diagonal, where=cells == FLUID)
            halved = axes_to_halve(shape, _mean_couplings(faces))
            last = is_coarsest(diagonal) or not any(halved)
            coarse_faces, coarse_cells, transfer = faces, cells, None
            if not last:
                coarse_faces, coarse_cells, transfer = self._coarser(cells, faces, halved, inside)
                inside = np.where(np.array(halved)[:, None], 2 * inside / (1 + inside), inside)
            lower = (faces[0], faces[1], faces[2])
            kernels.keep_unknowns(diagonal, *lower)
            with np.errstate(over="ignore"):  # of κ beyond float32's range: the solve's end says so
                inverse = np.divide(np.float32(1), diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
            level = VariableLevel(
                lower,
                diagonal,
                inverse,
                *(np.zeros(shape, np.float32) for _ in range(3)),  # type: ignore[arg-type]
            )
            found.append(level)
            if transfer is None:
                unknown = diagonal != 0
                level.index, level.inverse = coarsest_inverse(diagonal.astype(np.float64), lower, unknown)
                return found
            self._add_transfer(level, transfer, coarse_cells)
            coarse_faces += [self._coarser_term(level, one, coarse_cells) for one in faces[4:]]
            if parted:
                least = self._least_diagonal(level, couplings, coarse_cells)
            cells, faces = coarse_cells, coarse_faces

    def _coarser(
        self, cells: NDArray[np.uint8], faces: list[Single], halved: list[bool], inside: NDArray[np.float64]
    ) -> tuple[list[Single], NDArray[np.uint8], tuple[Any, ...]]:
        """The coarse level's faces and types, and the far weights with what they belong to."""
        from relaxon.solvers.multigrid import variable_kernels as kernels

        steps, shape = coarsened(cells.shape, halved)
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
        types = np.empty(shape, np.uint8)
        coarsen_types(cells, steps, types)
        return coarse, types, (far, halved, steps)

    def _coarser_term(self, level: VariableLevel, term: Single, coarse_cells: NDArray[np.uint8]) -> Single:
        """A reaction's term on the coarse level: `Pᵀ` of the fine one, each cell's share with those it takes from."""
        from relaxon.solvers.multigrid import variable_kernels as kernels

        assert level.share is not None
        kept = np.where(level.diagonal != 0, term, np.float32(0)) * level.share
        coarse, ones, around = (np.zeros(coarse_cells.shape, np.float32) for _ in range(3))
        ones.fill(1.0)
        kernels.restrict(kept, *level.transfer, level.steps, self.wrap, ones, coarse)
        kernels.restrict(level.diagonal * level.share, *level.transfer, level.steps, self.wrap, ones, around)
        coarse[coarse < NEGLIGIBLE_TERM * around] = 0
        return coarse

    def _least_diagonal(self, level: VariableLevel, couplings: Single, coarse_cells: NDArray[np.uint8]) -> Single:
        """What the coarse level's diagonal is to be at least, the reaction's term left out."""
        from relaxon.solvers.multigrid import reach_kernels as kernels

        least = np.empty(coarse_cells.shape, np.float32)
        assert level.share is not None
        kernels.least_diagonal(couplings * level.share**2, *level.transfer, level.steps, self.wrap, least)
        return least

    def _add_transfer(self, level: VariableLevel, transfer: tuple[Any, ...], coarse_cells: NDArray[np.uint8]) -> None:
        from relaxon.solvers.multigrid import variable_kernels as kernels

        far, halved, steps = transfer
        axes = [
            axis_weights(n, h, bool(w), (False, False)) for n, h, w in zip(level.shape, halved, self.wrap, strict=True)
        ]
        level.own = tuple(axis.own for axis in axes)
        others = []
        for axis, n, h, w in zip(axes, level.shape, halved, self.wrap, strict=True):
            other = axis.other.copy()
            if h and not w:
                other[0] = -1
                if n % 2 == 0:
                    other[-1] = -1
            others.append(other)
        level.other, level.far, level.steps = tuple(others), tuple(far), steps
        opened = (coarse_cells != 1).astype(np.float32)
        inside, ones = level.work, (level.diagonal != 0).astype(np.float32)
        kernels.prolong(opened, np.float32(1), *level.transfer, ones, False, inside)
        # One over it where there are unknowns, 1 where nothing is inside.
        ones.fill(1.0)
        level.share = np.divide(1, inside, out=ones, where=inside > LEAST_INSIDE)
        level.share[level.diagonal == 0] = 0
        inside[...] = 0


def _single_faces(operator: PoissonOperator) -> tuple[list[Single], float]:
    """Return the open faces of each axis, all couplings to sides `(3, …)`, and the reaction's term where there is one.

    All are over the strongest of them, which is the second of what is returned: float32 holds any physical unit so.
    """
    grid = operator.grid
    shared = operator.dtype == np.float64 and not has_air(grid)
    faces, sides = operator.couplings if shared else open_faces(grid), by_layer(side_couplings(grid))
    term = reaction_term(grid)
    known = np.zeros((3, *grid.shape3), np.float32)
    largest = [float(f.max()) for f in faces] + [float(values.max()) for _, _, values in sides]
    unit = max(largest if term is None else [*largest, float(term.max())]) or 1.0
    # Rounded as they are divided: float64 quotients in between would be as much new memory as all faces.
    single = [np.divide(f, unit, out=np.empty(f.shape, np.float32), casting="same_kind") for f in faces]
    for axis, layer, values in sides:
        known[axis][layer] = values / unit
    single.append(known)
    if term is not None:
        single.append(np.divide(term, unit, out=np.empty(term.shape, np.float32), casting="same_kind"))
    return single, unit


def _inside_parts(grid: PoissonGrid) -> NDArray[np.float64]:
    """Of the way from a cell's centre to the value that a side holds, the part that lies in the cell, `(3, 2)`: all to
    the face of a Dirichlet side, half to a node a cell away, at a Robin side what the film's conductance leaves, the
    mean of its cells; 0 where nothing is held.
    """
    found = np.zeros((3, 2))
    for axis, pair in enumerate(grid.boundary):
        for end, side in enumerate(pair):
            if side in (Boundary.DIRICHLET, Boundary.DIRICHLET_NODE):
                found[3 - grid.ndim + axis, end] = 1.0 if side is Boundary.DIRICHLET else 0.5
    if any(isinstance(side, Robin) for pair in grid.boundary for side in pair):
        whole, scales, kappa = conductances(grid), face_scales(grid), face_coefficients(grid)
        for (axis, end), film in films(grid).items():
            face = slab(axis, 0, 1) if end == 0 else slab(axis, grid.shape[axis], grid.shape[axis] + 1)
            held = whole[axis][face]
            part = share_of(film, scales[axis][face] * kappa[axis][face])
            found[3 - grid.ndim + axis, end] = float((held * part).sum() / held.sum()) if held.any() else 0.0
    return found


def _mean_couplings(faces: list[Single]) -> list[float]:
    """Of the open faces along each axis."""
    return [float(face.sum(dtype=np.float64)) / max(int(np.count_nonzero(face)), 1) for face in faces[:3]]
