"""A small simulation as a user would write it: smoke rises around a moving sphere, a pressure solve each step.

Staggered (MAC) grid, semi-Lagrangian advection, Boussinesq buoyancy, a solid sphere that swings to and fro, an open
top and walls elsewhere. Source: J. Stam, "Stable Fluids", SIGGRAPH 1999; the grid is that of F. Harlow and J. Welch,
1965.
"""

# Imported on first use, for their weight: `solvers.driver.solve`, `kernels`.

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Solution
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid, Problem
from relaxon.solvers.interface.engine import Solver

Array = NDArray[np.float64]
OPEN_TOP = ["neumann", "neumann", ("neumann", "dirichlet")]
BUOYANCY = 3.0
"""Upward acceleration of undiluted smoke, in edges per time unit squared."""
SWING_PERIOD = 4.0
SWING_WIDTH = 0.15
SPHERE_RADIUS = 0.12
SOURCE_RADIUS = 0.13


@dataclass(frozen=True, slots=True)
class StepReport:
    """A time step: the pressure solve, and the largest |divergence| in the fluid before and after it."""

    time: float
    solution: Solution
    divergence_before: float
    divergence_after: float


class SmokePlume:
    """Smoke in a box of edge 1 along its longest axis, the last axis up.

    Parameters
    ----------
    shape : cells along each of three axes, each at least 4.
    time_step : in units in which the edge is crossed in about one; > 0.
    moving : whether the sphere moves, so that the geometry changes every step.

    Attributes
    ----------
    smoke : `shape float64`, concentration at cell centres, 0 to 1.
    velocity : three arrays on the faces across each axis, one longer along it; edges per time unit.
    """

    def __init__(self, shape: tuple[int, int, int], time_step: float = 0.04, moving: bool = True) -> None:
        if len(shape) != 3 or any(validation.positive_int("shape", n) < 4 for n in shape):
            raise ValueError(f"shape must be three numbers of at least 4, got {shape!r}")
        self.shape = shape
        self.time_step = validation.positive_float("time_step", time_step)
        self.moving = moving
        self.time = 0.0
        self.h = 1.0 / max(shape)
        self.smoke = np.zeros(shape)
        self.velocity = [np.zeros([n + (a == axis) for a, n in enumerate(shape)]) for axis in range(3)]
        self._points = [
            ((np.arange(n) + 0.5) * self.h).reshape([-1 if a == axis else 1 for a in range(3)])
            for axis, n in enumerate(shape)
        ]
        self._extent = [n * self.h for n in shape]
        self.grid = self._geometry()
        self._forced = False

    def step(self, solver: str | Solver = "dcdm", rtol: float = 1e-6, max_iterations: int | None = None) -> StepReport:
        """Advance by one time step: advection, heating, projection to zero divergence."""
        from relaxon.solvers.driver.solve import solve

        problem = self.pressure_problem()
        before = self._largest_divergence()
        solution = solve(
            problem.grid,
            problem.b,
            solver=solver,
            rtol=rtol,
            max_iterations=max_iterations,
            inconsistent="project",
        )
        self._subtract_gradient(solution.x)
        self.time += self.time_step
        self._forced = False
        return StepReport(self.time, solution, before, self._largest_divergence())

    def pressure_problem(self) -> Problem:
        """Return the coming step's pressure system `−∇²p = −∇·u/Δt`, after that step's advection and forces."""
        if not self._forced:
            self._advect()
            self._emit()
            self.grid = self._geometry()
            self._enforce_walls()
            self._forced = True
        b = np.where(self.grid.fluid, -self._divergence() / self.time_step, 0.0)
        self.grid.nullspace.project(b.reshape(self.grid.shape3))
        return Problem("plume", self.grid, b, None, "smoke plume around a moving sphere")

    @property
    def sphere(self) -> tuple[list[float], float]:
        """The sphere's centre now, and its speed along the first axis."""
        phase = 2 * math.pi * self.time / SWING_PERIOD if self.moving else 0.0
        centre = [0.5 * e for e in self._extent]
        centre[0] += SWING_WIDTH * self._extent[0] * math.sin(phase)
        rate = 2 * math.pi / SWING_PERIOD if self.moving else 0.0
        return centre, SWING_WIDTH * self._extent[0] * rate * math.cos(phase)

    def _geometry(self) -> PoissonGrid:
        cells = np.where(self._ball(self.sphere[0], SPHERE_RADIUS), CellType.SOLID, CellType.FLUID)
        return PoissonGrid(cells.astype(np.uint8), self.h, OPEN_TOP)

    def _ball(self, centre: list[float], radius: float) -> NDArray[np.bool_]:
        squares = sum(((p - c) ** 2 for p, c in zip(self._points, centre, strict=True)), start=np.zeros((1, 1, 1)))
        inside: NDArray[np.bool_] = squares < (radius * min(self._extent)) ** 2
        return inside

    def _advect(self) -> None:
        from relaxon.solvers.plume import kernels

        time = self.time_step / self.h
        offsets = [(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0), (0.5, 0.5, 0.5)]
        moved = []
        for field, offset in zip([*self.velocity, self.smoke], offsets, strict=True):
            out = np.empty_like(field)
            kernels.advect(field, *offset, *self.velocity, time, out)
            moved.append(out)
        self.velocity, self.smoke = moved[:3], moved[3]

    def _emit(self) -> None:
        source = self._ball([0.5 * self._extent[0], 0.5 * self._extent[1], 0.15 * self._extent[2]], SOURCE_RADIUS)
        self.smoke[source] = 1.0
        lift = 0.5 * self.time_step * BUOYANCY
        self.velocity[2][:, :, 1:-1] += lift * (self.smoke[:, :, 1:] + self.smoke[:, :, :-1])

    def _enforce_walls(self) -> None:
        """Give faces of the sphere its velocity and faces of the box none; the open top is free."""
        solid = self.grid.cells == CellType.SOLID
        self.smoke[solid] = 0.0
        for axis, faces in enumerate(self.velocity):
            speed = self.sphere[1] if axis == 0 else 0.0
            touches = np.zeros(faces.shape, bool)
            touches[_part(axis, 0, -1)] |= solid
            touches[_part(axis, 1, None)] |= solid
            faces[touches] = speed
            faces[_part(axis, 0, 1)] = 0.0
            if axis < 2:
                faces[_part(axis, -1, None)] = 0.0

    def _divergence(self) -> Array:
        return sum((np.diff(f, axis=axis) for axis, f in enumerate(self.velocity)), start=np.zeros(self.shape)) / self.h

    def _largest_divergence(self) -> float:
        return float(np.abs(self._divergence()[self.grid.fluid]).max())

    def _subtract_gradient(self, p: Array) -> None:
        fluid = self.grid.fluid
        scale = self.time_step / self.h
        for axis, faces in enumerate(self.velocity):
            below, above = _part(axis, 0, -1), _part(axis, 1, None)
            between = fluid[below] & fluid[above]
            faces[_part(axis, 1, -1)] -= scale * (p[above] - p[below]) * between
        # At the open top p is 0 on the face, half a cell above the last centre.
        self.velocity[2][:, :, -1] += 2 * scale * p[:, :, -1] * fluid[:, :, -1]


def _part(axis: int, start: int, stop: int | None) -> tuple[slice, ...]:
    return tuple(slice(start, stop) if a == axis else slice(None) for a in range(3))
