"""A first solve: Poisson's equation on the unit square.

`−∇²x = b` with x = 0 on the boundary. The right-hand side is chosen so that the exact solution is known, and the error
falls by a factor of four when the cells are halved: the discretisation is of second order.
"""

import matplotlib.pyplot as plt
import numpy as np

from relaxon.solvers import PoissonGrid, solve


def solve_on(n):
    """Return the solution on n×n cells and its largest error."""
    centres = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(centres, centres, indexing="ij")
    exact = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
    grid = PoissonGrid(np.zeros((n, n), np.uint8), spacing=1 / n, boundary="dirichlet")
    solution = solve(grid, 5 * np.pi**2 * exact, rtol=1e-10)
    return solution, np.abs(solution.x - exact).max()


sizes = [16, 32, 64, 128]
solutions, errors = zip(*map(solve_on, sizes), strict=True)
for n, solution, error in zip(sizes, solutions, errors, strict=True):
    print(f"{n}×{n} cells: {solution.result.name} in {solution.iterations} iterations, error {error:.2e}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
figure.colorbar(left.imshow(solutions[-1].x.T, origin="lower", extent=(0, 1, 0, 1)), label="solution x")
right.loglog(sizes, errors, "o-", label="largest error")
right.loglog(sizes, errors[0] * (sizes[0] / np.array(sizes)) ** 2, "--", label="second order")
right.set_xticks(sizes, sizes, minor=False)
right.set(xlabel="cells a side", ylabel="largest error")
right.minorticks_off()
right.legend()
plt.show()
