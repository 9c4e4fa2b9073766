"""The solves of `bench/mpi.py`: one system on some MPI processes, by this library and by PETSc's preconditioners."""

from __future__ import annotations

import glob
import importlib.util
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from mpi4py import MPI

from relaxon.solvers import gallery
from relaxon.solvers.distributed import Decomposition, DistributedPoissonGrid
from relaxon.solvers.grid.poisson_grid import Boundary, PoissonGrid

Row = dict[str, Any]
CASES = ("box", "spheres", "pool", "random", "neumann")
DEBIAN = "/usr/lib/petscdir/*/*-real/lib/python3/dist-packages"
"""Where Debian's package is, should no alternative for /usr/lib/petsc be set."""
SLACK = 1.001
MOST_NULL_VECTORS = 64
DIVERGED = 1e10
"""Times the right-hand side's norm; PETSc's own 1e4 stops CG early where its residual rises before it falls."""
SECONDS = 30.0
"""Of a solver's repeats, after which no other is begun."""
RIVALS = {
    "PETSc GAMG": {
        "pc_type": "gamg",
        "mg_levels_ksp_type": "richardson",
        "mg_levels_pc_type": "sor",
        "mg_levels_ksp_max_it": "1",
    },
    "PETSc GAMG, unsmoothed": {
        "pc_type": "gamg",
        "mg_levels_ksp_type": "richardson",
        "mg_levels_pc_type": "sor",
        "mg_levels_ksp_max_it": "2",
        "pc_gamg_agg_nsmooths": "0",
    },
    "hypre BoomerAMG": {
        "pc_type": "hypre",
        "pc_hypre_type": "boomeramg",
        "pc_hypre_boomeramg_strong_threshold": "0.5",
        "pc_hypre_boomeramg_coarsen_type": "HMIS",
        "pc_hypre_boomeramg_interp_type": "ext+i",
        "pc_hypre_boomeramg_P_max": "4",
        "pc_hypre_boomeramg_agg_nl": "1",
    },
}
"""The best of `bench/petsc.py --tune` of each kind."""
OURS = {
    "PETSc CG, learned cycle": {
        "ksp_type": "cg",
        "pc_type": "python",
        "pc_python_type": "relaxon.solvers.petsc.LearnedCycle",
    },
    "PETSc DCDM, learned cycle": {
        "ksp_type": "python",
        "ksp_python_type": "relaxon.solvers.petsc.DeepConjugateDirections",
        "pc_type": "python",
        "pc_python_type": "relaxon.solvers.petsc.LearnedCycle",
    },
}


def petsc_module() -> tuple[Any, str]:
    """petsc4py's module, or None and why."""
    if importlib.util.find_spec("petsc4py") is None:
        # Debian's is built for Debian's Python.
        if sys.base_prefix != "/usr":
            return None, "absent: no petsc4py in this Python"
        sys.path.extend(sorted(glob.glob(DEBIAN)))
    try:
        import petsc4py

        petsc4py.init([])
        from petsc4py import PETSc
    except (ImportError, ValueError) as error:
        return None, f"absent: {error}"
    return PETSc, ""


@dataclass
class Part:
    """One system on the processes of `comm`."""

    comm: Any
    petsc: Any
    case: str
    shape: tuple[int, ...]
    rtol: float

    @cached_property
    def problem(self) -> gallery.Problem:
        return gallery.make(self.case, self.shape)

    @cached_property
    def split(self) -> Decomposition:
        """Slabs, as PETSc's rows are."""
        return Decomposition.of(self.shape, self.comm.size, (self.comm.size, 1))

    @property
    def planes(self) -> slice:
        return self.split.owned(self.comm.rank)[0]

    @cached_property
    def rows(self) -> tuple[Any, Any, Any]:
        """This process's rows of the matrix on the fluid cells: CSR with global columns, in C order of the fluid."""
        grid, planes = self.problem.grid, self.planes
        # One plane more on each side: those cells' own rows are not used. Around a periodic axis nothing is cut here.
        first, last = max(planes.start - 1, 0), min(planes.stop + 1, self.shape[0])
        low, high = grid.boundary[0]
        sides = (low if first == 0 else Boundary.NEUMANN, high if last == self.shape[0] else Boundary.NEUMANN)
        near = PoissonGrid(grid.cells[first:last], grid.spacing, [sides, *grid.boundary[1:]])
        fluid = grid.cells == 0
        before = int(np.count_nonzero(fluid[:first]))
        skipped = int(np.count_nonzero(fluid[first : planes.start]))
        mine = int(np.count_nonzero(fluid[planes]))
        csr = near.operator().to_csr()[skipped : skipped + mine].tocsr()
        return csr.indptr.astype(np.int64), csr.indices.astype(np.int64) + before, csr.data

    def product(self, x: Any) -> Any:
        """`A x` for this process's rows, from everybody's part of `x`."""
        from scipy.sparse import csr_array

        pieces = self.comm.allgather(x)
        starts, columns, data = self.rows
        whole = np.concatenate(pieces)
        return csr_array((data, columns, starts), shape=(len(starts) - 1, len(whole))) @ whole

    @cached_property
    def b(self) -> Any:
        """The fluid's right-hand side here."""
        return np.ascontiguousarray(self.problem.b[self.planes][self.problem.grid.cells[self.planes] == 0])

    def relative_residual(self, x: Any) -> float:
        """Recomputed from the matrix."""
        difference = self.b - self.product(x)
        both = np.array([difference @ difference, self.b @ self.b])
        total = self.comm.allreduce(both)
        return float(np.sqrt(total[0] / total[1]))


def runs_of(part: Part, repeats: int, *, rivals: bool) -> Iterator[Row]:
    """Each solver on the system: medians of set-up and solve, the slowest process counting."""
    yield _repeated(part, "relaxon over mpi4py", True, repeats, _own)
    if part.petsc is None:
        return
    for name, options in OURS.items():
        yield _repeated(part, name, True, repeats, lambda p, o=options: _on_dmda(p, o))
    if rivals:
        for name, options in RIVALS.items():
            yield _repeated(part, name, False, repeats, lambda p, o=options: _compressed(p, {"ksp_type": "cg", **o}))


def _repeated(part: Part, name: str, ours: bool, repeats: int, run: Any) -> Row:
    setups: list[float] = []
    solves: list[float] = []
    found = run(part) if ours else None  # kernels are compiled
    while len(setups) < repeats and sum(setups) + sum(solves) < SECONDS:
        part.comm.Barrier()
        found = run(part)
        setups.append(part.comm.allreduce(found[0], op=MPI.MAX))
        solves.append(part.comm.allreduce(found[1], op=MPI.MAX))
    assert found is not None
    residual = part.relative_residual(found[3])
    return {
        "solver": name,
        "ours": ours,
        "iterations": found[2],
        "setup": statistics.median(setups),
        "solve": statistics.median(solves),
        "repeats": len(setups),
        "together": statistics.median(a + b for a, b in zip(setups, solves, strict=True)),
        "residual": residual,
        "met": residual <= SLACK * part.rtol,
    }


def _own(part: Part) -> tuple[float, float, int, Any]:
    grid, planes = part.problem.grid, part.planes
    cells, b = np.ascontiguousarray(grid.cells[planes]), np.ascontiguousarray(part.problem.b[planes])
    part.comm.Barrier()
    start = time.perf_counter()
    mine = DistributedPoissonGrid(cells, part.split, part.comm, spacing=grid.spacing, boundary=grid.boundary)
    prepared = mine.prepare()
    middle = time.perf_counter()
    solution = prepared.solve(b, rtol=part.rtol)
    end = time.perf_counter()
    return middle - start, end - middle, solution.iterations, solution.x[cells == 0]


def _ksp(part: Part, matrix: Any, options: dict[str, str]) -> Any:
    petsc = part.petsc
    prefix = "bench_"
    chosen = petsc.Options()
    for key, value in options.items():
        chosen[prefix + key] = value
    solver = petsc.KSP().create(comm=matrix.comm)
    solver.setOptionsPrefix(prefix)
    solver.setOperators(matrix)
    solver.setTolerances(rtol=part.rtol, divtol=DIVERGED, max_it=500)
    solver.setNormType(petsc.KSP.NormType.UNPRECONDITIONED)
    solver.setFromOptions()
    for key in options:
        chosen.delValue(prefix + key)
    return solver


def _solved(part: Part, solver: Any, b: Any, x: Any) -> tuple[float, float]:
    part.comm.Barrier()
    start = time.perf_counter()
    solver.setUp()
    solver.getPC().setUp()
    middle = time.perf_counter()
    solver.solve(b, x)
    return middle - start, time.perf_counter() - middle


def _singular(part: Part, matrix: Any, where: Any, like: Any) -> None:
    """Tell PETSc of the constant null vectors of closed components. `where`: of each cell here, its row or −1."""
    null = part.problem.grid.nullspace
    if null.labels is None or null.dimension > MOST_NULL_VECTORS:
        return
    labels = null.labels[part.planes].reshape(-1)
    vectors = []
    for number in range(1, null.dimension + 1):
        vector = like.duplicate()
        vector.set(0.0)
        vector.getArray()[where[labels == number]] = 1.0
        vector.normalize()
        vectors.append(vector)
    matrix.setNullSpace(part.petsc.NullSpace().create(constant=False, vectors=vectors, comm=matrix.comm))


def _compressed(part: Part, options: dict[str, str]) -> tuple[float, float, int, Any]:
    """On the fluid cells alone: the smallest matrix that PETSc can be given."""
    petsc, kind = part.petsc, part.petsc.IntType
    starts, columns, data = part.rows
    count = len(starts) - 1
    total = part.comm.allreduce(count)
    csr = (starts.astype(kind), columns.astype(kind), data.copy())
    matrix = petsc.Mat().createAIJ(((count, total), (count, total)), csr=csr, comm=petsc.Comm(part.comm))
    matrix.setBlockSize(1)
    b, x = matrix.createVecLeft(), matrix.createVecRight()
    b.getArray()[...] = part.b
    fluid = part.problem.grid.cells[part.planes].reshape(-1) == 0
    _singular(part, matrix, np.where(fluid, np.cumsum(fluid) - 1, -1), x)
    solver = _ksp(part, matrix, options)
    times = _solved(part, solver, b, x)
    found = (*times, solver.getIterationNumber(), x.getArray().copy())
    for thing in (solver, matrix, b, x):
        thing.destroy()
    return found


def _on_dmda(part: Part, options: dict[str, str]) -> tuple[float, float, int, Any]:
    """On all cells of a DMDA, those outside the fluid with rows of their own: where a simulation has them."""
    petsc, kind = part.petsc, part.petsc.IntType
    lengths = tuple(int(n) for n in np.diff(part.split.bounds[0]))
    nz, ny, nx = part.shape
    da = petsc.DMDA().create(
        dim=3,
        sizes=(nx, ny, nz),
        proc_sizes=(1, 1, part.comm.size),
        ownership_ranges=((nx,), (ny,), lengths),
        dof=1,
        stencil_width=1,
        stencil_type=petsc.DMDA.StencilType.STAR,
        comm=petsc.Comm(part.comm),
    )
    fluid = (part.problem.grid.cells == 0).reshape(-1)
    plane = ny * nx
    own = fluid[part.planes.start * plane : part.planes.stop * plane]
    starts, columns, data = part.rows
    place = np.flatnonzero(fluid)
    widths = np.ones(len(own), np.int64)
    widths[own] = np.diff(starts)
    ends = np.concatenate([[0], np.cumsum(widths)])
    all_columns, all_data = np.empty(ends[-1], np.int64), np.ones(ends[-1])
    inside = np.repeat(own, widths)
    all_columns[inside], all_data[inside] = place[columns], data
    all_columns[~inside] = np.flatnonzero(~own) + part.planes.start * plane
    size = ((len(own), len(fluid)),) * 2
    csr = (ends.astype(kind), all_columns.astype(kind), all_data)
    matrix = petsc.Mat().createAIJ(size, csr=csr, comm=da.comm)
    matrix.setDM(da)
    b, x = da.createGlobalVec(), da.createGlobalVec()
    b.getArray()[own] = part.b
    _singular(part, matrix, np.arange(len(own)), x)
    solver = _ksp(part, matrix, options)
    times = _solved(part, solver, b, x)
    found = (*times, solver.getIterationNumber(), x.getArray()[own].copy())
    for thing in (solver, matrix, b, x, da):
        thing.destroy()
    return found
