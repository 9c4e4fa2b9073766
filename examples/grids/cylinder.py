"""The drag of a cylinder in a channel whose surface cuts through cells, compared with a series of 1946.

    python cylinder.py [CELLS_ACROSS] [PICTURE.png]

Slow (Stokes) flow in a channel that is CELLS_ACROSS cells wide, and in channels with half and a quarter as many. The
cylinder stands still, and the walls and the fluid far away move past it with speed 1. Velocities are staggered. They
vanish on the cylinder, at its true distance from each point (Gibou et al. 2002): face coefficients are 1/θ towards
cells of type AIR. For the pressure, each cell keeps the open part of its faces (Ng et al. 2009). GMRES solves
`D A⁻¹ G p = D A⁻¹ b` for the pressure, where relaxon's multigrid, prepared once, applies `A⁻¹`.

The drag of a cylinder of diameter k between walls a unit apart is `4π / (−0.9157 − ln k + 1.7244 k² − 1.7302 k⁴ +
2.4056 k⁶ − 4.5913 k⁸)` in units of viscosity times speed (Faxén 1946, as in Happel and Brenner, "Low Reynolds Number
Hydrodynamics", 1965).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, gmres

from relaxon.solvers import CellType, PoissonGrid, boundary_source, prepare
from relaxon.solvers.cut_cells import outside_disc

Array = NDArray[np.float64]
LENGTH, DIAMETER = 3.0, 0.25
"""Dimensions of the channel and the cylinder, in widths of the channel."""
NEAREST = 1e-2
"""Least distance of a point from the cylinder's surface, in cells."""


def faxen(k: float) -> float:
    series = -0.9157 - math.log(k) + 1.7244 * k**2 - 1.7302 * k**4 + 2.4056 * k**6 - 4.5913 * k**8
    return 4 * math.pi / series


def beside_cylinder(x: Array, y: Array, h: float, radius: float) -> tuple[NDArray[np.uint8], list[Array]]:
    """Return cell types around points at `x` and `y` from the cylinder's axis, and their face coefficients."""
    inside = np.hypot(x[:, None], y[None, :]) < radius
    cells = np.where(inside, CellType.AIR, CellType.FLUID).astype(np.uint8)
    faces = []
    for axis, (along, across) in enumerate(((x, y), (y, x))):
        n = len(along)
        face = np.ones((n + 1, len(across)))
        half = np.sqrt(np.maximum(radius**2 - across**2, 0.0))
        solid = inside if axis == 0 else inside.T
        for i in range(1, n):
            crosses = solid[i] != solid[i - 1]
            # Of the two, the point outside is the one farther from the axis.
            outside = np.where(solid[i], np.abs(along[i - 1]), np.abs(along[i]))
            theta = np.clip((outside - half) / h, NEAREST, 1.0)
            face[i] = np.where(crosses, 1.0 / theta, 1.0)
        faces.append(face if axis == 0 else face.T)
    return cells, faces


class Channel:
    """The flow around the cylinder on cells of width `h = 1 / across`."""

    def __init__(self, across: int, rtol: float = 1e-9) -> None:
        self.h, self.rtol = 1.0 / across, rtol
        nx, ny = round(LENGTH * across), across
        h, radius, centre = self.h, DIAMETER / 2, (LENGTH / 2, 0.5)
        nodes_x, nodes_y = np.arange(nx + 1) * h - centre[0], np.arange(ny + 1) * h - centre[1]
        middle_x, middle_y = nodes_x[:-1] + h / 2, nodes_y[:-1] + h / 2
        self.open, _ = outside_disc((nx, ny), h, centre, radius)
        # Only inner faces are unknown; the ends and the walls are known.
        sides_u = ["dirichlet-node", "dirichlet"]
        u_cells, u_faces = beside_cylinder(nodes_x[1:-1], middle_y, h, radius)
        v_cells, v_faces = beside_cylinder(middle_x, nodes_y[1:-1], h, radius)
        self.u_grid = PoissonGrid(u_cells, h, sides_u, u_faces)
        self.v_grid = PoissonGrid(v_cells, h, ["dirichlet", "dirichlet-node"], v_faces)
        self.u_solver, self.v_solver = (prepare(grid, solver="mg-cg") for grid in (self.u_grid, self.v_grid))
        self.moving = boundary_source(self.u_grid, side_values=[(1.0, 1.0), (1.0, 1.0)])
        self.fluid = self._divergence(self.u_grid.fluid * 1.0, self.v_grid.fluid * 1.0, 1.0, absolute=True) > 0

    def _divergence(self, u: Array, v: Array, ends: float, absolute: bool = False) -> Array:
        """Return the outflow of each cell through the open part of its faces, divided by its width."""
        flow_x, flow_y = np.pad(u, ((1, 1), (0, 0)), constant_values=ends), np.pad(v, ((0, 0), (1, 1)))
        flow_x, flow_y = flow_x * self.open[0], flow_y * self.open[1]
        if absolute:
            return flow_x[1:] + flow_x[:-1] + flow_y[:, 1:] + flow_y[:, :-1]
        return (flow_x[1:] - flow_x[:-1] + flow_y[:, 1:] - flow_y[:, :-1]) / self.h

    def velocities(self, p: Array, walls: bool) -> tuple[Array, Array]:
        """Return the flow that a pressure drives, with or without the motion of the walls."""
        push_u = (p[:-1] - p[1:]) / self.h + (self.moving if walls else 0.0)
        push_v = (p[:, :-1] - p[:, 1:]) / self.h
        u = self.u_solver.solve(push_u, rtol=self.rtol).x if np.any(push_u) else np.zeros(push_u.shape)
        v = self.v_solver.solve(push_v, rtol=self.rtol).x if np.any(push_v) else np.zeros(push_v.shape)
        return u, v

    def solve(self) -> tuple[Array, Array, Array, int]:
        """Return the velocities, the pressure, and the number of flows computed."""
        shape, count = self.fluid.shape, int(self.fluid.sum())
        calls = 0

        def full(packed: Array) -> Array:
            p = np.zeros(shape)
            p[self.fluid] = packed - packed.mean()
            return p

        def image(packed: Array) -> Array:
            nonlocal calls
            calls += 1
            return self._divergence(*self.velocities(full(packed), walls=False), 0.0)[self.fluid]

        b = -self._divergence(*self.velocities(np.zeros(shape), walls=True), 1.0)[self.fluid]
        operator: Any = LinearOperator((count, count), matvec=image)
        packed, info = gmres(operator, b - b.mean(), rtol=1e-6, restart=60, maxiter=3)
        if info:
            raise SystemExit(f"the pressure was not found: {info}")
        p = full(packed)
        return *self.velocities(p, walls=True), p, calls

    def drag(self, u: Array, p: Array) -> float:
        """Return the drag from the momentum through the sides: pressure at both ends, friction at all four sides."""
        ends = (1.0 - u[0]).sum() + (1.0 - u[-1]).sum()
        walls = 2 * (1.0 - u[:, 0]).sum() + 2 * (1.0 - u[:, -1]).sum()
        return float(self.h * (p[0] - p[-1]).sum() + ends + walls)


def main() -> int:
    across = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    expected, errors = faxen(DIAMETER), []
    for cells in (across // 4, across // 2, across):
        channel = Channel(cells)
        u, v, p, calls = channel.solve()
        drag = channel.drag(u, p)
        errors.append(abs(drag / expected - 1))
        print(
            f"{cells} cells across, {round(cells * DIAMETER)} across the cylinder: drag {drag:.4f}, "
            f"series {expected:.4f}, difference {errors[-1]:.2%}; {calls} flows"
        )
    if len(sys.argv) > 2:
        draw(sys.argv[2], channel, u, v, p)
    return 0 if errors[-1] < 0.02 else 1


def draw(path: str, channel: Channel, u: Array, v: Array, p: Array) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    h = channel.h
    middle = 0.5 * (np.pad(u, ((1, 0), (0, 0)), constant_values=1.0) + np.pad(u, ((0, 1), (0, 0)), constant_values=1.0))
    upward = 0.5 * (np.pad(v, ((0, 0), (1, 0))) + np.pad(v, ((0, 0), (0, 1))))
    x, y = (np.arange(middle.shape[0]) + 0.5) * h, (np.arange(middle.shape[1]) + 0.5) * h
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    most = float(np.abs(p).max())
    shown = axes.imshow(
        np.where(channel.fluid, p, np.nan).T,
        origin="lower",
        extent=(0, LENGTH, 0, 1),
        cmap="RdBu_r",
        vmin=-most,
        vmax=most,
    )
    # In the frame of the walls, the fluid far away is at rest.
    axes.streamplot(x, y, middle.T - 1.0, upward.T, density=1.1, color="0.25", linewidth=0.7, arrowsize=0.8)
    axes.add_patch(plt.Circle((LENGTH / 2, 0.5), DIAMETER / 2, color="0.15", zorder=3))
    axes.set(xlabel="x in widths of the channel", ylabel="y", ylim=(0, 1), xlim=(0, LENGTH))
    figure.colorbar(shown, label="pressure over μU/W", shrink=0.9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
