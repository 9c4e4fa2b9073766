"""A SciPy program that solves for its pressure by conjugate gradients, with one more line: `M`.

    python scipy_cg.py [CELLS_PER_SIDE]

The matrix is the program's own, assembled with SciPy; relaxon never sees it. relaxon gets the grid once, and returns
`M`, a learned multigrid V-cycle in the form that `scipy.sparse.linalg.cg` takes.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array, kron
from scipy.sparse.linalg import cg

from relaxon.solvers import CellType, PoissonGrid


def tank(n: int) -> np.ndarray:
    """Return the cells of water with pillars and air above it."""
    cells = np.full((n, n, n), CellType.FLUID, np.uint8)
    cells[:, :, int(0.8 * n) :] = CellType.AIR
    for x, y in ((0.3, 0.4), (0.7, 0.6), (0.5, 0.2)):
        a, b, r = int(x * n), int(y * n), max(n // 12, 1)
        cells[a - r : a + r, b - r : b + r, : int(0.6 * n)] = CellType.SOLID
    return cells


def own_matrix(cells: np.ndarray, h: float) -> csr_array:
    """Return the program's own matrix: `−∇²` over the water, no flux into walls, 0 in the air."""
    n = cells.shape[0]
    chain = diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1])
    whole = eye_array(n)
    neighbours = kron(kron(chain, whole), whole) + kron(kron(whole, chain), whole) + kron(kron(whole, whole), chain)
    neighbours = csr_array(neighbours)
    water = (cells == CellType.FLUID).reshape(-1)
    open_faces = neighbours @ (cells != CellType.SOLID).reshape(-1).astype(float)
    laplacian = diags_array(open_faces) - neighbours
    return csr_array(laplacian.tocsr()[water][:, water] / h**2)


def main() -> int:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    cells, h = tank(n), 1.0 / n
    matrix = own_matrix(cells, h)
    b = np.random.default_rng(0).standard_normal(matrix.shape[0])

    grid = PoissonGrid(cells, spacing=h)
    ways = {"cg alone": None, "cg with relaxon's M": grid.preconditioner()}
    cg(matrix, b, M=ways["cg with relaxon's M"], rtol=1e-1)  # kernels are compiled at the first use
    counts = {}
    for name, preconditioner in ways.items():
        steps: list[float] = []
        start = time.perf_counter()
        x, failed = cg(matrix, b, M=preconditioner, rtol=1e-8, maxiter=5000, callback=steps.append)
        seconds = time.perf_counter() - start
        residual = np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)
        counts[name] = len(steps)
        print(f"{name}: {len(steps)} iterations, {seconds:.3f} s, relative residual {residual:.1e}")
        if failed:
            return 1
    return 0 if counts["cg with relaxon's M"] < counts["cg alone"] else 1


if __name__ == "__main__":
    sys.exit(main())
