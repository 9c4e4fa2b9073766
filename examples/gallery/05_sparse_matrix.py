"""A sparse matrix: heat on an unstructured mesh.

`solve` takes any SciPy sparse matrix. Without a solver's name it looks at the matrix, chooses a method, and says why.
The matrix here is the cotangent Laplacian of a triangle mesh, as linear finite elements assemble it.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import Delaunay

from relaxon.solvers import solve

rng = np.random.default_rng(0)
points = rng.uniform(-1, 1, (6000, 2))
points = points[np.hypot(*points.T) < 1]
circle = np.linspace(0, 2 * np.pi, 220, endpoint=False)
points = np.vstack([points, np.column_stack([np.cos(circle), np.sin(circle)])])
triangles = Delaunay(points).simplices

a, b, c = points[triangles].swapaxes(0, 1)
(ux, uy), (vx, vy) = (b - a).T, (c - a).T
area = 0.5 * np.abs(ux * vy - uy * vx)
edges = np.stack([c - b, a - c, b - a])  # opposite to each corner
local = np.einsum("ikd,jkd->kij", edges, edges) / (4 * area[:, None, None])
rows, columns = np.repeat(triangles, 3, axis=1), np.tile(triangles, 3)
A = coo_array((local.ravel(), (rows.ravel(), columns.ravel()))).tocsr()
load = np.bincount(triangles.ravel(), np.repeat(area / 3, 3))  # the integral of 1 against each hat function

inside = np.arange(len(points) - len(circle))  # the circle is held at 0
solution = solve(A[inside][:, inside], load[inside], rtol=1e-10)
values = np.append(solution.x, np.zeros(len(circle)))
error = np.abs(values - (1 - (points**2).sum(1)) / 4).max()  # exact: (1 − r²)/4
print(f"{solution.result.name}: {solution.message}\nlargest error {error:.1e}")

figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
figure.colorbar(axes.tripcolor(*points.T, triangles, values, shading="gouraud"), label="temperature")
axes.triplot(*points.T, triangles, linewidth=0.15, color="white")
axes.set_aspect("equal")
plt.show()
