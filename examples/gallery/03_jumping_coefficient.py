"""A coefficient that jumps: heat flow through a composite.

`−∇·(κ∇x) = 0` between a hot and a cold side, in a material whose grains conduct a thousand times better than what lies
between them. `boundary_source` turns boundary values into a right-hand side.
"""

import matplotlib.pyplot as plt
import numpy as np

from relaxon.solvers import PoissonGrid, boundary_source, solve

n = 128
x, y = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
kappa = np.ones((n, n))
for cx, cy, radius in np.random.default_rng(3).uniform((0, 0, 0.03), (1, 1, 0.09), (45, 3)):
    kappa[np.hypot(x - cx, y - cy) < radius] = 1000.0

grid = PoissonGrid(np.zeros((n, n), np.uint8), 1 / n, ["dirichlet", "neumann"], coefficient=kappa)
b = boundary_source(grid, side_values=[(1.0, 0.0), (None, None)])  # x = 1 on the left, 0 on the right
solution = solve(grid, b, rtol=1e-9)

# The flux through the left side is the effective conductivity of the unit square.
effective = np.sum(2 * kappa[0] * (1 - solution.x[0]))
print(f"{solution.result.name} in {solution.iterations} iterations, effective conductivity {effective:.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.imshow(kappa.T, origin="lower", cmap="Greys", extent=(0, 1, 0, 1))
left.set_title("κ: 1 and 1000")
figure.colorbar(right.imshow(solution.x.T, origin="lower", cmap="inferno", extent=(0, 1, 0, 1)), label="temperature")
right.contour(x, y, solution.x, 12, colors="white", linewidths=0.6)
plt.show()
