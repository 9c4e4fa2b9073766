"""A PETSc program without any reference to relaxon; two command-line options make it use the learned cycle.

    mpiexec -n 2 python petsc_options.py -ksp_type cg -pc_type gamg
    mpiexec -n 2 python petsc_options.py -ksp_type cg -pc_type python -pc_python_type relaxon.solvers.petsc.LearnedCycle

It needs petsc4py: see docs/distributed.md. The equation is that of PETSc's own tutorials, `−∇²u = f` at the nodes of
the unit cube, with identity rows for the nodes on the boundary; `-da_grid_x 65 -da_grid_y 65 -da_grid_z 65` sets the
size.
"""

from __future__ import annotations

import sys
import time

import petsc4py

petsc4py.init(sys.argv)
from petsc4py import PETSc  # noqa: E402


def assembled(da: PETSc.DMDA) -> PETSc.Mat:
    nx, ny, nz = da.getSizes()
    matrix = da.createMatrix()
    row, column = PETSc.Mat.Stencil(), PETSc.Mat.Stencil()
    weights = [(n - 1) ** 2 for n in (nx, ny, nz)]
    (x0, x1), (y0, y1), (z0, z1) = da.getRanges()
    for k in range(z0, z1):
        for j in range(y0, y1):
            for i in range(x0, x1):
                row.index, here = (i, j, k), (i, j, k)
                inside = all(0 < p < n - 1 for p, n in zip(here, (nx, ny, nz), strict=True))
                matrix.setValueStencil(row, row, 2.0 * sum(weights) if inside else 1.0)
                if not inside:
                    continue
                for axis, weight in enumerate(weights):
                    for step in (-1, 1):
                        there = list(here)
                        there[axis] += step
                        if 0 < there[axis] < (nx, ny, nz)[axis] - 1:
                            column.index = tuple(there)
                            matrix.setValueStencil(row, column, -float(weight))
    matrix.assemble()
    return matrix


def main() -> int:
    da = PETSc.DMDA().create(dim=3, sizes=(33, 33, 33), dof=1, stencil_width=1, setup=False)
    da.setStencilType(PETSc.DMDA.StencilType.STAR)
    da.setFromOptions()
    da.setUp()
    matrix = assembled(da)
    b, x = da.createGlobalVec(), da.createGlobalVec()
    b.set(1.0)
    solver = PETSc.KSP().create(da.comm)
    solver.setOperators(matrix)
    solver.setTolerances(rtol=1e-8)
    solver.setFromOptions()
    solver.setUp()
    start = time.perf_counter()
    solver.solve(b, x)
    seconds = time.perf_counter() - start
    residual = b.duplicate()
    matrix.mult(x, residual)
    residual.aypx(-1.0, b)
    PETSc.Sys.Print(
        f"{solver.getType()} with {solver.getPC().getType()}: {solver.getIterationNumber()} iterations, "
        f"{seconds:.3f} s, relative residual {residual.norm() / b.norm():.1e}"
    )
    return 0 if solver.getConvergedReason() > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
