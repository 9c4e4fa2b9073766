"""Smoke in a viscous fluid: an implicit viscous step, compared with the same plume without viscosity.

    python viscous_plume.py [CELLS_PER_SIDE] [PICTURE.png]

`relaxon.solvers.plume` advects smoke and velocity, adds buoyancy, and makes the velocity divergence-free. Before that
last step, this program solves the viscous part of the time step, `(1/(νΔt) − ∇²) u = u*/(νΔt)`, for each component: a
grid with σ = 1/(νΔt). The values of a component lie on faces. So a wall across its axis is a value on a node beside the
last unknown ("dirichlet-node"), and a wall along it is half a cell away ("dirichlet"); faces of the moving sphere are
AIR cells with its speed. An explicit step would need Δt below h²/(6ν); the program prints how many times longer its
step is.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import CellType, PoissonGrid, boundary_source, solve
from relaxon.solvers.plume import SmokePlume

Array = NDArray[np.float64]
VISCOSITY = 0.02
"""Viscosity in edges squared per time unit: a Reynolds number of about fifty."""
END = 1.6


class ViscousPlume(SmokePlume):
    """A plume of a fluid with this viscosity; `iterations` are those of the last step's three viscous solves."""

    def __init__(self, shape: tuple[int, int, int], viscosity: float) -> None:
        super().__init__(shape)
        self.viscosity, self.iterations = viscosity, [0, 0, 0]

    def _enforce_walls(self) -> None:
        super()._enforce_walls()
        if self.viscosity > 0:
            for axis in range(3):
                self._diffuse(axis)

    def _diffuse(self, axis: int) -> None:
        """Take one implicit viscous step of a component, in place."""
        faces, sigma = self.velocity[axis], 1.0 / (self.viscosity * self.time_step)
        # Values on walls are known; the one at the open top is free.
        inner = tuple(slice(1, None if a == 2 else -1) if a == axis else slice(None) for a in range(3))
        values = faces[inner]
        solid = np.pad(self.grid.cells == CellType.SOLID, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        touches = np.maximum(*(solid[tuple(part if a == axis else slice(None) for a in range(3))] for part in ENDS))[
            inner
        ]
        sides: list[Any] = ["dirichlet", "dirichlet", ("dirichlet", "neumann")]
        sides[axis] = ("dirichlet-node", "neumann") if axis == 2 else "dirichlet-node"
        cells = np.where(touches, CellType.AIR, CellType.FLUID).astype(np.uint8)
        grid = PoissonGrid(cells, self.h, sides, reaction=sigma)
        known = boundary_source(grid, air_values=np.where(touches, values, 0.0))
        found = solve(grid, sigma * values + known, x0=values, rtol=1e-6)
        if not found.converged:
            raise SystemExit(f"the viscous step of axis {axis} ended: {found.result.name}")
        self.iterations[axis] = found.iterations
        values[grid.fluid] = found.x[grid.fluid]


ENDS = (slice(0, -1), slice(1, None))


def main() -> int:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 48
    plumes = {"without viscosity": ViscousPlume((n, n, n), 0.0), "with viscosity": ViscousPlume((n, n, n), VISCOSITY)}
    steps = round(END / plumes["with viscosity"].time_step)
    for name, plume in plumes.items():
        reports = [plume.step() for _ in range(steps)]
        energy = sum(float((faces**2).sum()) for faces in plume.velocity) / 2 * plume.h**3
        height = float((plume.smoke.sum((0, 1)) * (np.arange(n) + 0.5)).sum() / plume.smoke.sum() / n)
        left = max(report.divergence_after for report in reports)
        print(
            f"{name}: {steps} steps, energy {energy:.4f}, mean height of the smoke {height:.3f}, "
            f"divergence at most {left:.1e}; viscous iterations of the last step {plume.iterations}"
        )
        plume.energy = energy  # type: ignore[attr-defined]
    thick = plumes["with viscosity"]
    explicit = thick.h**2 / (6 * VISCOSITY)
    print(f"the time step is {thick.time_step / explicit:.0f} times the longest explicit one")
    if len(sys.argv) > 2:
        draw(sys.argv[2], plumes)
    return 0 if thick.energy < 0.8 * plumes["without viscosity"].energy else 1  # type: ignore[attr-defined]


def draw(path: str, plumes: dict[str, ViscousPlume]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
    for axis, (name, plume) in zip(axes, plumes.items(), strict=True):
        middle = plume.shape[1] // 2
        solid = plume.grid.cells[:, middle] == CellType.SOLID
        axis.imshow(plume.smoke[:, middle].T, origin="lower", extent=(0, 1, 0, 1), cmap="gray_r", vmin=0, vmax=1)
        axis.contourf(
            np.where(solid, 1.0, np.nan).T, levels=[0.5, 1.5], extent=(0, 1, 0, 1), colors=["tab:blue"], origin="lower"
        )
        axis.set(title=name, xticks=[], yticks=[])
    figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
