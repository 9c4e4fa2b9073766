"""Run by `test_mpi.py` in several processes: grids given to PETSc as matrices alone, solved with its options."""

# ruff: noqa: E402 (PETSc's package has to be found first)

import glob
import json
import sys
from importlib.util import find_spec

if find_spec("petsc4py") is None:
    sys.path.extend(sorted(glob.glob("/usr/lib/petscdir/*/*-real/lib/python3/dist-packages")))
import petsc4py

petsc4py.init([])
import any_matrix
import numpy as np
from petsc4py import PETSc
from scipy import sparse

from relaxon.solvers import PoissonGrid, Robin, gallery
from relaxon.solvers.cut_cells import outside_disc
from relaxon.solvers.petsc.layout import Layout
from relaxon.solvers.petsc.preconditioner import grid_of

CYCLE = {"pc_type": "python", "pc_python_type": "relaxon.solvers.petsc.LearnedCycle"}
CG = {"ksp_type": "cg", **CYCLE}
DCDM = {"ksp_type": "python", "ksp_python_type": "relaxon.solvers.petsc.DeepConjugateDirections", **CYCLE}
JACOBI = {**DCDM, "pc_type": "jacobi", "ksp_relaxon_window": "2"}
SIZE = PETSc.COMM_WORLD.getSize()
RANK = PETSc.COMM_WORLD.getRank()


def matrix_of(grid, sign=1.0):
    """On all cells of the grid, with ones for those outside the fluid; C order."""
    csr = grid.operator().to_csr().tocoo()
    place = np.flatnonzero(grid.fluid.reshape(-1))
    count = grid.fluid.size
    full = sparse.csr_array((sign * csr.data, (place[csr.row], place[csr.col])), shape=(count, count))
    return (full + sparse.diags_array((~grid.fluid.reshape(-1)).astype(float))).tocsr()


def dmda(shape, periodic=None, parts=None):
    kinds = [PETSc.DM.BoundaryType.PERIODIC if p else PETSc.DM.BoundaryType.NONE for p in periodic or [0] * len(shape)]
    return PETSc.DMDA().create(
        dim=len(shape), sizes=shape[::-1], dof=1, stencil_width=1, boundary_type=kinds[::-1],
        stencil_type=PETSc.DMDA.StencilType.STAR, proc_sizes=parts,
    )  # fmt: skip


def given(da, full):
    """A matrix in C order as PETSc's, with the DMDA's own order of rows."""
    layout = Layout(da)
    own = tuple(slice(a, a + n) for a, n in zip(layout.starts, layout.sizes, strict=True))
    natural = np.arange(full.shape[0]).reshape(layout.shape)[own].reshape(-1)
    place = layout.places(tuple(slice(0, n) for n in layout.shape)).reshape(-1)
    rows = full[natural].tocsr()
    kind = PETSc.IntType
    csr = (rows.indptr.astype(kind), place[rows.indices].astype(kind), rows.data.copy())
    matrix = PETSc.Mat().createAIJ(((len(natural), full.shape[0]),) * 2, csr=csr, comm=da.comm)
    matrix.setDM(da)
    return matrix, natural


def solver_of(matrix, options, rtol=1e-8):
    chosen = PETSc.Options()
    for key, value in options.items():
        chosen["t_" + key] = value
    solver = PETSc.KSP().create()
    solver.setOptionsPrefix("t_")
    solver.setOperators(matrix)
    solver.setTolerances(rtol=rtol, max_it=2000)
    solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    solver.setFromOptions()
    for key in options:
        chosen.delValue("t_" + key)
    return solver


def solved(name, grid, b, options, da, sign=1.0, full=None):
    """A row for the tests: iterations, residual, and whether the grid was recognised for what it is."""
    full = matrix_of(grid, sign) if full is None else full
    matrix, natural = given(da, full)
    null = grid.nullspace
    if null.labels is not None:
        vectors = []
        for number in range(1, null.dimension + 1):
            vector = matrix.createVecRight()
            vector.getArray()[...] = (null.labels.reshape(-1) == number)[natural]
            vector.normalize()
            vectors.append(vector)
        matrix.setNullSpace(PETSc.NullSpace().create(constant=False, vectors=vectors))
    right, x = matrix.createVecLeft(), matrix.createVecRight()
    right.getArray()[...] = sign * (b * grid.fluid).reshape(-1)[natural]
    solver = solver_of(matrix, options)
    solver.solve(right, x)
    residual = right.duplicate()
    matrix.mult(x, residual)
    residual.aypx(-1.0, right)
    row = {
        "case": name,
        "iterations": solver.getIterationNumber(),
        "reason": solver.getConvergedReason(),
        "residual": residual.norm() / right.norm(),
        "x": x.norm(),
    }
    if options.get("pc_type") == "python":
        context = solver.getPC().getPythonContext()
        known = context.recognised
        row["exact"], row["scale"] = known.exact, known.scale
        row["cut"] = list(context.grid.decomposition.parts)
        row["boundary"] = [[side.value for side in pair] for pair in known.boundary]
        row["spacing"] = list(known.spacing)
    return row


def refusal(da, full):
    matrix, _ = given(da, full)
    try:
        grid_of(matrix, Layout(da), PETSc.COMM_WORLD.tompi4py())
    except ValueError as error:
        return str(error)
    return ""


def solves():
    for name in ("box", "spheres", "pool", "random", "neumann"):
        problem = gallery.make(name, 48)
        for way, options in (("cg", CG), ("dcdm", DCDM)):
            yield solved(f"{name} {way}", problem.grid, problem.b, options, dmda(problem.grid.shape))
    problem = gallery.make("pool", 32)
    grid, b = problem.grid, problem.b
    yield solved("across x", grid, b, CG, dmda(grid.shape, parts=(SIZE, 1, 1)))
    yield solved("negative", grid, b, CG, dmda(grid.shape), sign=-1.0)
    yield solved("jacobi", grid, b, JACOBI, dmda(grid.shape))
    flat = gallery.make("spheres", 96, ndim=2)
    yield solved("plane", flat.grid, flat.b, CG, dmda(flat.grid.shape))
    rng = np.random.default_rng(0)
    cells = (rng.random((32, 24, 20)) < 0.1).astype(np.uint8)
    grid = PoissonGrid(cells, (1.0, 0.5, 0.7), ["periodic", "periodic", ("dirichlet", "neumann")])
    b = rng.standard_normal(grid.shape) * grid.fluid
    grid.nullspace.project(b)
    yield solved("periodic", grid, b, CG, dmda(grid.shape, (1, 1, 0)))
    # Nodes, with the boundary's own rows kept, coupled to from inside: PETSc's own way in many examples.
    n = 33
    cells = np.full((n, n, n), 2, np.uint8)
    cells[1:-1, 1:-1, 1:-1] = 0
    grid = PoissonGrid(cells, 1 / (n - 1))
    b = rng.standard_normal(grid.shape) * grid.fluid
    inside = np.arange(n**3).reshape((n,) * 3)
    full = matrix_of(grid).tolil()
    for axis in range(3):
        for edge, beside in ((0, 1), (n - 1, n - 2)):
            pairs = [np.take(inside, place, axis)[1:-1, 1:-1].reshape(-1) for place in (beside, edge)]
            full[pairs[0], pairs[1]] = -float((n - 1) ** 2)
    yield solved("nodes", grid, b, CG, dmda(grid.shape), full=full.tocsr())
    for name, grid in of_other_kinds(rng).items():
        b = rng.standard_normal(grid.shape) * grid.fluid
        grid.nullspace.project(b.reshape(grid.shape3))
        for way, options in (("cg", CG), ("dcdm", DCDM)):
            yield solved(f"{name} {way}", grid, b, options, dmda(grid.shape, grid.periodic))


def of_other_kinds(rng):
    """Grids whose matrices are not that of κ = 1 on equal cells."""
    box, plane = np.zeros((32, 24, 20), np.uint8), np.zeros((96, 64), np.uint8)
    strewn = (rng.random(plane.shape) < 0.1).astype(np.uint8)
    faces, volume = outside_disc(plane.shape, 1 / 64, (0.8, 0.5), 0.2)
    layers = np.where(np.arange(32) // 4 % 2, 1e6, 1.0).reshape(-1, 1, 1) * np.ones(box.shape)
    return {
        "nodes beyond": PoissonGrid(box, boundary="dirichlet-node"),
        "κ varies": PoissonGrid(box, boundary="dirichlet", coefficient=10.0 ** rng.uniform(0, 3, box.shape)),
        "layers": PoissonGrid(box, boundary=["dirichlet", "neumann", "periodic"], coefficient=layers),
        "closed, κ varies": PoissonGrid(strewn, coefficient=10.0 ** rng.uniform(0, 2, plane.shape)),
        "σ": PoissonGrid(box, boundary="neumann", reaction=0.1),
        "σ of cells": PoissonGrid(plane, boundary="periodic", reaction=rng.uniform(0, 1, plane.shape)),
        "cut cells": PoissonGrid(plane, 1 / 64, "dirichlet", faces, 3.0, volume=np.maximum(volume, 1e-6)),
        "widths": PoissonGrid(
            box, (np.geomspace(1, 3, 32), 1.0, np.geomspace(2, 1, 20)), ["dirichlet", *2 * ["neumann"]]
        ),
        "Robin": PoissonGrid(box, 1 / 20, [Robin(3.0), "neumann", "neumann"]),
    }


def refusals():
    grid = PoissonGrid(np.zeros((12, 12, 12), np.uint8), boundary="dirichlet")
    full, da = matrix_of(grid), dmda(grid.shape)
    lopsided = full.tolil()
    lopsided[0, 1] = -2.0
    yield "not symmetric", refusal(da, lopsided.tocsr())
    lopsided[0, 1] = lopsided[1, 0] = 2.0
    yield "couplings of both signs", refusal(da, lopsided.tocsr())
    far = full.tolil()
    far[0, 100] = -1.0
    yield "far", refusal(da, far.tocsr())
    broken = full.copy()
    broken.data[5] = np.nan
    yield "NaN", refusal(da, broken)
    yield "too small a diagonal", refusal(da, (full - 2 * sparse.eye_array(1728)).tocsr())
    yield "no couplings", refusal(da, sparse.eye_array(1728).tocsr())
    plain = PETSc.Mat().createAIJ(((27 if RANK == 0 else 0, 27),) * 2, nnz=1)
    plain.setUp()
    for row in range(*plain.getOwnershipRange()):
        plain.setValue(row, row, 1.0)
    plain.assemble()
    try:
        solver_of(plain, CG).setUp()
        yield "no DMDA", ""
    except (ValueError, PETSc.Error) as error:
        yield "no DMDA", str(error)


def changed():
    """A matrix whose values change: the grid is read anew."""
    one, two = gallery.make("spheres", 32), gallery.make("pool", 32)
    da = dmda(one.grid.shape)
    rows = []
    matrix, natural = given(da, matrix_of(one.grid))
    solver = solver_of(matrix, CG)
    for problem in (one, two):
        other, _ = given(da, matrix_of(problem.grid))
        solver.setOperators(other)
        right, x = other.createVecLeft(), other.createVecRight()
        right.getArray()[...] = (problem.b * problem.grid.fluid).reshape(-1)[natural]
        solver.solve(right, x)
        rows.append([solver.getIterationNumber(), solver.getConvergedReason()])
    return rows


def main():
    found = {"solves": list(solves()), "refusals": dict(refusals()), "changed": changed()}
    found["matrices"] = any_matrix.found()
    if RANK == 0:
        sys.stdout.write("FOUND " + json.dumps(found) + "\n")


main()
