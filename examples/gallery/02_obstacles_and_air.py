"""Obstacles and an open surface: the pressure in a tank of water.

Cells are fluid, solid or air. No flux enters a solid cell, and the pressure in the air is zero. `dcdm` is compared with
the classical solvers behind the same call.
"""

import matplotlib.pyplot as plt
import numpy as np

from relaxon.solvers import CellType, PoissonGrid, solve

n = 96
x, z = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
cells = np.full((n, n), CellType.FLUID, np.uint8)
for centre in ((0.3, 0.35), (0.68, 0.5)):
    cells[np.hypot(x - centre[0], z - centre[1]) < 0.13] = CellType.SOLID
cells[z > 0.8 + 0.04 * np.sin(9 * x)] = CellType.AIR
grid = PoissonGrid(cells, spacing=1 / n, boundary="neumann")

# Water enters at the lower left and leaves at the lower right.
b = np.exp(-((x - 0.1) ** 2 + (z - 0.12) ** 2) / 0.002) - np.exp(-((x - 0.9) ** 2 + (z - 0.12) ** 2) / 0.002)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for solver in ("dcdm", "mg-cg", "ic-cg", "cg"):
    solution = solve(grid, b, solver=solver, rtol=1e-8)
    print(f"{solver}: {solution.result.name} in {solution.iterations} iterations")
    right.semilogy(solution.residuals / solution.residuals[0], label=solver)
pressure = np.ma.masked_where(cells != CellType.FLUID, solution.x)
left.imshow(cells.T == CellType.SOLID, origin="lower", cmap="Greys", vmax=2)
figure.colorbar(left.imshow(pressure.T, origin="lower", cmap="RdBu_r"), label="pressure")
right.set(xlabel="iteration", ylabel="relative residual", xlim=(-2, 90))
right.legend()
plt.show()
