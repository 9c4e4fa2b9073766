"""A drop at rest, a thousand times as dense as the gas around it: Laplace's law and spurious currents.

    python static_drop.py [CELLS_ACROSS] [PICTURE.png]

The ghost fluid method (Liu, Fedkiw, Kang 2000): on a face that the surface crosses, 1/ρ is that of both fluids in
series, weighted by the lengths that lie in them, and surface tension is a pressure jump, γ times the curvature. The
surface is given by the distance from it, and the curvature is computed from the distance by central differences, as
simulations do. Nothing should move, but the imbalance of the pressure accelerates the fluids: spurious currents. Their
acceleration is given relative to γ/(ρR²) of the liquid, for CELLS_ACROSS cells across the box and for two coarser
grids.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import PoissonGrid, Solution, solve

Array = NDArray[np.float64]
RADIUS, TENSION, LIQUID, GAS = 0.25, 1.0, 1000.0, 1.0
CENTRE = (0.503, 0.497)
"""Of the drop in a box of edge 1: nowhere special among the cells."""


def distance(n: int) -> Array:
    """Return the signed distance from the surface at cell centres, with one more cell on each side; negative inside."""
    x = (np.arange(-1, n + 1) + 0.5) / n
    return np.hypot(x[:, None] - CENTRE[0], x[None, :] - CENTRE[1]) - RADIUS


def curvature(phi: Array, h: float) -> Array:
    """Return the curvature `∇·(∇φ/|∇φ|)` at the cell centres."""
    dx, dy = (phi[2:, 1:-1] - phi[:-2, 1:-1]) / (2 * h), (phi[1:-1, 2:] - phi[1:-1, :-2]) / (2 * h)
    middle = phi[1:-1, 1:-1]
    dxx, dyy = (
        (phi[2:, 1:-1] - 2 * middle + phi[:-2, 1:-1]) / h**2,
        (phi[1:-1, 2:] - 2 * middle + phi[1:-1, :-2]) / h**2,
    )
    dxy = (phi[2:, 2:] - phi[2:, :-2] - phi[:-2, 2:] + phi[:-2, :-2]) / (4 * h**2)
    return (dxx * dy**2 - 2 * dx * dy * dxy + dyy * dx**2) / np.maximum(dx**2 + dy**2, 1e-12) ** 1.5


def crossing(phi: Array, bend: Array, axis: int) -> tuple[Array, Array]:
    """Return 1/ρ on the inner faces across an axis, and the pressure jump from the cell below to the one above."""
    low, high = (phi[(slice(None),) * axis + (part,)] for part in (slice(0, -1), slice(1, None)))
    bend_low, bend_high = (bend[(slice(None),) * axis + (part,)] for part in (slice(0, -1), slice(1, None)))
    wet_low, wet_high = low < 0, high < 0
    parts = np.abs(low) / np.maximum(np.abs(low) + np.abs(high), 1e-300)
    below, above = np.where(wet_low, LIQUID, GAS), np.where(wet_high, LIQUID, GAS)
    density = parts * below + (1 - parts) * above
    surface = TENSION * ((1 - parts) * bend_low + parts * bend_high)
    # The pressure is higher in the drop.
    jump = np.where(wet_low & ~wet_high, -surface, np.where(wet_high & ~wet_low, surface, 0.0))
    return 1.0 / density, jump


def at_rest(n: int) -> tuple[Array, Array, list[Array], Solution]:
    """Return the distance, the pressure, the spurious accelerations of the faces, and the solution, on n × n cells."""
    h, wide = 1.0 / n, distance(n)
    phi, bend = wide[1:-1, 1:-1], curvature(wide, h)
    coefficient, pushes = [], []
    b = np.zeros((n, n))
    for axis in range(2):
        inverse, jump = crossing(phi, bend, axis)
        ends = [(1, 1) if a == axis else (0, 0) for a in range(2)]
        coefficient.append(np.pad(inverse, ends, constant_values=1.0 / GAS))
        pushes.append(inverse * jump / h)
        # A jump acts as a force on its face; the pressure balances its gradient part.
        b -= np.diff(np.pad(pushes[-1], ends), axis=axis) / h
    grid = PoissonGrid(np.zeros((n, n), np.uint8), h, "neumann", coefficient)
    solution = solve(grid, b, rtol=1e-10, inconsistent="project")
    left = []
    for axis, push in enumerate(pushes):
        inner = coefficient[axis][(slice(None),) * axis + (slice(1, -1),)]
        left.append(push - inner * np.diff(solution.x, axis=axis) / h)
    return phi, solution.x, left, solution


def main() -> int:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    law, errors = TENSION / RADIUS, []
    for cells in (n // 4, n // 2, n):
        phi, p, left, solution = at_rest(cells)
        away = 2.0 / cells
        jump = p[phi < -away].mean() - p[phi > away].mean()
        errors.append(abs(jump / law - 1))
        spurious = max(float(np.abs(part).max()) for part in left) * LIQUID * RADIUS**2 / TENSION
        print(
            f"{cells} cells: {solution.result.name} in {solution.iterations} iterations, pressure jump {jump:.5f} "
            f"({errors[-1]:.1e} from γ/R), spurious acceleration {spurious:.2e} γ/(ρR²)"
        )
    if len(sys.argv) > 2:
        draw(sys.argv[2], phi, p, left)
    return 0 if solution.converged and errors[-1] < 0.01 else 1


def draw(path: str, phi: Array, p: Array, left: list[Array]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    n = len(p)
    figure, (first, second) = plt.subplots(1, 2, figsize=(10, 4.3), layout="constrained")
    x = (np.arange(n) + 0.5) / n
    shown = first.imshow((p - p[phi > 0.1].mean()).T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis")
    first.contour(x, x, phi.T, levels=[0], colors="w", linewidths=1)
    first.set(title="pressure, γ/R inside", xlabel="x", ylabel="y")
    figure.colorbar(shown, ax=first, shrink=0.85)
    middle = [
        0.5 * (part[1:] + part[:-1]) if axis == 0 else 0.5 * (part[:, 1:] + part[:, :-1])
        for axis, part in enumerate(left)
    ]
    size = np.hypot(middle[0][:, 1:-1], middle[1][1:-1]) * LIQUID * RADIUS**2 / TENSION
    shown = second.imshow(np.maximum(size, 1e-12).T, origin="lower", extent=(0, 1, 0, 1), cmap="magma")
    second.contour(x, x, phi.T, levels=[0], colors="w", linewidths=1)
    second.set(title="spurious acceleration over γ/(ρR²)", xlabel="x")
    figure.colorbar(shown, ax=second, shrink=0.85)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
