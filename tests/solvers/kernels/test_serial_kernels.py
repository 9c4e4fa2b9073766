"""Kernels are serial code that our own threads divide: Numba's are never started, and their number never shows."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from numba.core.dispatcher import Dispatcher

import relaxon
from relaxon.neuromorphic.boosting.stages import descent_kernels
from relaxon.neuromorphic.energy import kernels as energy
from relaxon.neuromorphic.equilibrium import kernels as equilibrium
from relaxon.solvers import ConjugateDirectionsWith, PoissonGrid, gallery, prepare
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.krylov.conjugate_gradients import IncompleteCholeskyCG
from relaxon.solvers.multigrid.solver import MultigridCG
from relaxon.solvers.plume import SmokePlume

PACKAGE = Path(relaxon.__file__).parent
ROOT = PACKAGE.parents[1]
COUNTS = (1, 2, 4)


def sources(*folders):
    return [path for folder in folders for path in sorted(Path(folder).resolve().rglob("*.py"))]


def kernels():
    """Name and dispatcher of each kernel of a module."""
    for package in ("solvers", "neuromorphic"):
        for path in sources(PACKAGE / package):
            if "numba" not in (text := path.read_text()) and "solvers.kernels" not in text:
                continue
            name = path.relative_to((PACKAGE / package).resolve()).with_suffix("").as_posix().replace("/", ".")
            for value in vars(importlib.import_module(f"relaxon.{package}.{name}")).values():
                kernel = getattr(value, "kernel", value)
                if isinstance(kernel, Dispatcher):
                    yield f"{name}.{kernel.__name__}", kernel


def test_no_kernel_is_compiled_for_numba_s_threads():
    """Neither those of a module nor those that a function makes."""
    found = 0
    for name, kernel in kernels():
        found += 1
        assert not kernel.targetoptions.get("parallel"), name
    assert found > 60
    written = sources(PACKAGE / "solvers", PACKAGE / "neuromorphic", ROOT / "bench", PACKAGE / "cli")
    assert len(written) > 150
    for path in written:
        assert "prange" not in path.read_text(), path


def test_what_a_kernel_calls_is_inlined():
    """Else a process that compiled it might call another kernel's copy, rounded otherwise, than one that loaded it."""
    found = 0
    for name, kernel in kernels():
        for called in kernel.py_func.__code__.co_names:
            other = kernel.py_func.__globals__.get(called)
            if isinstance(other, Dispatcher):
                found += 1
                options = other.targetoptions
                assert options.get("forceinline") or options.get("inline") == "always", f"{name} calls {called}"
    assert found > 40


SOLVED = """
import numba, numpy as np, scipy.sparse as sp
from relaxon.solvers import PoissonGrid, gallery, list_solvers, solve
solved = set()
for ndim, varying in ((3, False), (2, False), (3, True)):
    cells = np.zeros((30,) * ndim, np.uint8)
    cells[..., -3:] = 2
    grid = PoissonGrid(cells, coefficient=np.full(cells.shape, 2.0) if varying else None)
    for entry in list_solvers():
        if not {"torch", "pyamg"} & set(entry.needs):
            box = PoissonGrid(np.zeros_like(cells), boundary="dirichlet", coefficient=grid.coefficient)
            fitting = box if entry.name == "fast-diagonalisation" else grid
            solve(fitting, np.ones(cells.shape), solver=entry.name, max_iterations=2)
            solved.add(entry.name)
assert {"dcdm", "mg-cg", "ic-cg", "cg", "jacobi-cg"} <= solved, solved
matrix = sp.csr_array(PoissonGrid(np.zeros((28,) * 3, np.uint8), boundary="dirichlet").operator().to_csr())
for name in ("ic-cg", "cg", "jacobi-cg"):
    solve(matrix, np.ones(matrix.shape[0]), solver=name, max_iterations=2)
try:
    print(numba.threading_layer())
except ValueError:
    print("none")
"""


def test_a_solve_starts_none_of_numba_s_threads():
    done = subprocess.run([sys.executable, "-c", SOLVED], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["none"]


def same_bits(compute):
    """`compute()` gives arrays; they are the same whatever the number of threads."""
    found = []
    for count in COUNTS:
        with num_threads(count):
            found.append([np.asarray(array) for array in compute()])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    assert all(np.isfinite(array).all() for array in found[0])


GRIDS = {
    "spheres": lambda: gallery.make("spheres", 40),
    "variable": lambda: gallery.make("variable", 36),
    "flat": lambda: gallery.make("pool", 220, 2),
}
SOLVERS = {
    "cg": "cg",
    "jacobi-cg": "jacobi-cg",
    "ic-cg": "ic-cg",
    "ic-cg in 3 slabs": IncompleteCholeskyCG(slabs=3),
    "mg-cg": "mg-cg",
    "mg-cg red-black": MultigridCG("red-black"),
    "dcdm": "dcdm",
    "amg": "amg",
    "directions": ConjugateDirectionsWith(lambda r: r.astype(np.float32)),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", GRIDS)
def test_a_solve_has_the_same_bits_at_any_number_of_threads(kind, solver):
    problem = GRIDS[kind]()

    def solved():
        grid = PoissonGrid(
            problem.grid.cells, problem.grid.spacing, problem.grid.boundary, coefficient=problem.grid.coefficient
        )
        solution = prepare(grid, solver=SOLVERS[solver]).solve(problem.b, max_iterations=9)
        return solution.x, solution.residuals, [solution.true_residual]

    same_bits(solved)


@pytest.mark.parametrize("solver", ["cg", "jacobi-cg", "ic-cg", ConjugateDirectionsWith(lambda r: r / 6)])
def test_a_sparse_solve_has_the_same_bits_at_any_number_of_threads(solver):
    matrix = sp.csr_array(PoissonGrid(np.zeros((31,) * 3, np.uint8), boundary="dirichlet").operator().to_csr())
    b = np.random.default_rng(0).standard_normal(matrix.shape[0])

    def solved():
        solution = prepare(matrix, solver=solver).solve(b, max_iterations=9)
        return solution.x, solution.residuals, [solution.true_residual]

    same_bits(solved)
    assert matrix.shape[0] > 4 * 4096  # several blocks a thread


def test_a_plume_has_the_same_bits_at_any_number_of_threads():
    def moved():
        plume = SmokePlume((36, 36, 36))
        for _ in range(2):
            plume.step(solver="cg")
        return (plume.smoke, *plume.velocity)

    same_bits(moved)


def test_the_reference_kernels_have_the_same_bits_at_any_number_of_threads():
    rng = np.random.default_rng(0)
    x, c, theta = rng.standard_normal((53, 3)), rng.standard_normal(53), rng.standard_normal(5 * 5 + 1)

    def energies():
        out, gradient = np.empty(len(x)), np.zeros(len(theta))
        energy.hidden_log_density(x, theta, 5, 0.1, out)
        energy.hidden_gradient(x, c, theta, 5, gradient)
        return out, gradient

    same_bits(energies)
    features, targets, weights = rng.standard_normal((4, 90)), rng.standard_normal((1, 90)), np.full(90, 1 / 90)
    starts = rng.standard_normal((5, 2 * 5 + 3))

    def descents():
        moved, values, counts = starts.copy(), np.empty(5), np.empty((5, 2), np.int64)
        descent_kernels.minimise_batch(
            moved, values, counts, features, targets, weights, 90, 2, 1e-3, True, 20, 0.0, 1.0, 10
        )
        return moved, values, counts

    same_bits(descents)
    sizes, u = np.array([5, 4]), rng.random((3, 2, 1, 9))
    up, drive, target = rng.standard_normal(20) / 9, rng.random((3, 9)), np.eye(3)
    readout, bias, beta = rng.standard_normal((3, 4)), np.zeros(3), np.array([[0.2, 0.0], [-0.2, 0.0]])

    def relaxed():
        end, residual, taken = u.copy(), np.empty((3, 2)), np.empty((3, 2), np.int64)
        given = (drive, up, up.copy(), sizes, readout, bias, target, beta)
        equilibrium.relax(end, *given, 1e-9, 50, residual, taken)
        return end, residual, taken

    same_bits(relaxed)


BITS = """
import hashlib
import numpy as np
from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor
from relaxon.neuromorphic.equilibrium import kernels
from relaxon.solvers import PoissonGrid, gallery, solve

problem, rng = gallery.make("spheres", 24), np.random.default_rng(0)
grid = problem.grid
varying = PoissonGrid(grid.cells, grid.spacing, grid.boundary, rng.uniform(0.5, 2, grid.shape))
matrix = PoissonGrid(np.zeros((12, 12, 12), np.uint8), 1.0, "dirichlet").operator().to_csr()
found = [solve(grid, problem.b, solver=name).x for name in ("dcdm", "cg", "ic-cg")]
found += [solve(varying, problem.b, solver="dcdm").x, solve(matrix, rng.standard_normal(matrix.shape[0])).x]
found.append(solve(matrix, np.ones(matrix.shape[0]), solver="amg").x)
table, u = rng.standard_normal((90, 3)), rng.random((3, 2, 2, 9))
found.append(GradientBoostedNetworkRegressor(2, random_state=0).fit(table, table[:, 0]).predict(table))
weights, beta = rng.standard_normal(20) / 9, np.array([[0.2, 0.1], [-0.2, 0.0]])
given = (rng.random((3, 9)), weights, weights.copy(), np.array([5, 4]), rng.standard_normal((3, 4)), np.zeros(3))
kernels.relax(u, *given, np.eye(3), beta, 1e-9, 50, np.empty((3, 2)), np.empty((3, 2), np.int64))
for x in (*found, u):
    print(hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest())
"""


@pytest.mark.slow  # all kernels are compiled
def test_a_process_that_compiles_and_one_that_loads_give_the_same_bits(tmp_path):
    def answers():
        done = subprocess.run(
            [sys.executable, "-c", BITS],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "RELAXON_NUM_THREADS": "2"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.split()

    compiled = answers()
    assert any(tmp_path.rglob("*.nbc"))
    assert len(set(compiled)) == 8
    assert answers() == compiled
