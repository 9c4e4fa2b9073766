"""A finite-volume flow solver in one file, as in a university course: a channel with a square cylinder in it.

    python finite_volume.py [STEPS] [PICTURE.png]

Staggered grid, upwind advection, diffusion, and a projection whose pressure comes from relaxon. The flow enters on the
left, the pressure is 0 on the right, and there are walls above and below. The solver is set up once; each step starts
from the last pressure.
"""

from __future__ import annotations

import sys

import numpy as np

from relaxon.solvers import CellType, PoissonGrid, prepare

NX, NY = 192, 64
H = 1.0 / NY
SPEED, VISCOSITY, DT = 1.0, 1.0 / 400, 0.4 / NY
SIDE = 10
"""Side of the cylinder, in cells."""


class Channel:
    """Velocities on faces: `u (NX + 1, NY)` along the channel, `v (NX, NY + 1)` across it."""

    def __init__(self) -> None:
        self.cells = np.full((NX, NY), CellType.FLUID, np.uint8)
        low = NY // 2 - SIDE // 2
        self.cells[NX // 5 : NX // 5 + SIDE, low : low + SIDE] = CellType.SOLID
        solid = self.cells == CellType.SOLID
        self.u_open = np.ones((NX + 1, NY), bool)
        self.u_open[1:-1] = ~(solid[1:] | solid[:-1])
        self.u_open[0] = False  # the inflow is given
        self.v_open = np.zeros((NX, NY + 1), bool)
        self.v_open[:, 1:-1] = ~(solid[:, 1:] | solid[:, :-1])
        grid = PoissonGrid(self.cells, H, [("neumann", "dirichlet"), "neumann"])
        self.prepared = prepare(grid)
        self.fluid = ~solid
        self.u = np.where(self.u_open, SPEED, 0.0)
        self.u[0] = SPEED
        # An asymmetric perturbation that starts the vortex shedding.
        self.v = np.where(self.v_open, 0.1 * np.sin(np.linspace(0, 9, NX))[:, None], 0.0)
        self.pressure = np.zeros((NX, NY))

    def divergence(self) -> np.ndarray:
        out = (self.u[1:] - self.u[:-1] + self.v[:, 1:] - self.v[:, :-1]) / H
        return np.where(self.fluid, out, 0.0)

    def advance(self) -> tuple[int, float]:
        """Take one time step; return the iterations of the pressure solve and the remaining divergence."""
        u, v = self.u, self.v
        v_at_u = np.zeros_like(u)
        v_at_u[1:-1] = 0.25 * (v[1:, 1:] + v[1:, :-1] + v[:-1, 1:] + v[:-1, :-1])
        u_at_v = np.zeros_like(v)
        u_at_v[:, 1:-1] = 0.25 * (u[1:, 1:] + u[1:, :-1] + u[:-1, 1:] + u[:-1, :-1])
        self.u = np.where(self.u_open, u + DT * (_diffusion(u) - _upwind(u, u, v_at_u)), 0.0)
        self.v = np.where(self.v_open, v + DT * (_diffusion(v) - _upwind(v, u_at_v, v)), 0.0)
        self.u[0] = SPEED

        solution = self.prepared.solve(-self.divergence() / DT, x0=self.pressure, rtol=1e-7)
        if not solution.converged:
            raise RuntimeError(f"pressure: {solution.result.name}: {solution.message}")
        p = self.pressure = solution.x
        self.u[1:-1] -= np.where(self.u_open[1:-1], DT * (p[1:] - p[:-1]) / H, 0.0)
        self.u[-1] += DT * 2 * p[-1] / H  # the pressure is 0 on the side, half a cell away
        self.v[:, 1:-1] -= np.where(self.v_open[:, 1:-1], DT * (p[:, 1:] - p[:, :-1]) / H, 0.0)
        return solution.iterations, float(np.abs(self.divergence()).max() * H / SPEED)

    def drag(self) -> float:
        """Return the pressure drag on the cylinder, divided by `½ SPEED² · side`."""
        low = NY // 2 - SIDE // 2
        rows, front, back = slice(low, low + SIDE), NX // 5 - 1, NX // 5 + SIDE
        force = (self.pressure[front, rows] - self.pressure[back, rows]).sum() * H
        return float(force / (0.5 * SPEED**2 * SIDE * H))

    def picture(self, path: str) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        curl = np.zeros((NX - 1, NY - 1))
        curl += (self.v[1:, 1:-1] - self.v[:-1, 1:-1]) / H - (self.u[1:-1, 1:] - self.u[1:-1, :-1]) / H
        figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
        axes.imshow(curl.T, origin="lower", cmap="RdBu", vmin=-15, vmax=15, extent=(0, NX * H, 0, 1))
        axes.imshow(
            np.ma.masked_where(self.fluid, np.ones((NX, NY))).T, origin="lower", cmap="gray", extent=(0, NX * H, 0, 1)
        )
        axes.set(title="vorticity", xlabel="x", ylabel="y")
        figure.savefig(path, dpi=130)


def _diffusion(q: np.ndarray) -> np.ndarray:
    padded = np.pad(q, 1, "edge")
    return VISCOSITY * (padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * q) / H**2


def _upwind(q: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    padded = np.pad(q, 1, "edge")
    along = np.where(u > 0, q - padded[:-2, 1:-1], padded[2:, 1:-1] - q)
    across = np.where(v > 0, q - padded[1:-1, :-2], padded[1:-1, 2:] - q)
    return (u * along + v * across) / H


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    channel, iterations, worst = Channel(), [], 0.0
    for step in range(1, steps + 1):
        count, left = channel.advance()
        iterations.append(count)
        worst = max(worst, left)
        if step % max(steps // 5, 1) == 0:
            mean = np.mean(iterations)
            print(f"step {step}: drag {channel.drag():.2f}, {mean:.1f} iterations a step, divergence {left:.1e}")
    if len(sys.argv) > 2:
        channel.picture(sys.argv[2])
    return 0 if worst < 1e-3 and np.isfinite(channel.u).all() else 1


if __name__ == "__main__":
    sys.exit(main())
