"""What is counted for a set-up and a solve is what they take at most, measured in a process of their own."""

import json
import os
import subprocess
import sys

import pytest

MEASURE = """
import json, sys
import numpy as np
from relaxon.solvers import PoissonGrid, prepare
from relaxon.solvers.interface import registry

def status(name):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

shape, variable, solvers = json.loads(sys.argv[1])

def problem(shape, solver):
    cells = np.zeros(shape, np.uint8)
    kappa = np.random.default_rng(0).uniform(0.5, 2.0, shape) if variable else None
    if solver != "fast-diagonalisation":
        cells[tuple(slice(n // 4, n // 3) for n in shape)] = 1
    elif variable:
        kappa[:] = kappa[:1]
        kappa[..., :] = kappa[..., :1]
    return PoissonGrid(cells, boundary="dirichlet", coefficient=kappa)

found = {}
for solver in solvers:
    small = problem([24] * len(shape), solver)
    prepare(small, solver=solver).solve(np.ones(small.shape), max_iterations=3)  # compiles
    grid = problem(shape, solver)
    grid.nullspace
    b = np.ones(shape)
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    before = status("VmRSS")
    front = prepare(grid, solver=solver)
    kept = status("VmRSS") - before
    solution = front.solve(b, max_iterations=3)
    found[solver] = (kept, status("VmHWM") - before)
    del front, solution
print(json.dumps(found))
"""
RESCUED = """
import json, sys
import numpy as np
from relaxon.solvers import PoissonGrid, prepare

def status(name):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

def problem(n):
    widths, rng = 1.1 ** np.abs(np.arange(n) - (n - 1) / 2), np.random.default_rng(0)
    kappa = 1e6 ** rng.integers(0, 2, (n, n, n)).astype(float)
    grid = PoissonGrid(np.zeros(kappa.shape, np.uint8), (widths / widths.sum(),) * 3, "dirichlet", kappa)
    return grid, rng.standard_normal(grid.shape)

grid, b = problem(32)
assert prepare(grid).solve(b).fallbacks  # compiles
grid, b = problem(64)
grid.nullspace
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
before = status("VmRSS")
solution = prepare(grid).solve(b)
print(json.dumps([solution.fallbacks, status("VmHWM") - before]))
"""
SLACK = 12 * 2**20
"""Code that is loaded late, and what the allocator keeps."""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not say")
@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("shape", [[96, 96, 96], [1200, 1000]])
def test_no_set_up_or_solve_takes_more_than_is_counted(shape, variable):
    from relaxon.server.solving import footprint
    from relaxon.solvers import PoissonGrid

    solvers = ["dcdm", "mg-cg", "mg-rbgs-cg", "ic-cg", "jacobi-cg", "cg", "auto", "fast-diagonalisation", "amg"]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", MEASURE, json.dumps([shape, variable, solvers])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    import numpy as np

    kappa = np.ones(shape) if variable else None
    grid = PoissonGrid(np.zeros(shape, np.uint8), boundary="dirichlet", coefficient=kappa)
    arrays = 16 * grid.cells.size  # b, which is here before, is counted apart; x, which comes of it
    for solver, (kept, most) in json.loads(done.stdout).items():
        counted, work = footprint.grid_setup(solver, grid)
        assert kept <= counted + SLACK, (solver, kept / grid.cells.size, counted / grid.cells.size)
        assert most <= counted + work + arrays + SLACK, (solver, most / grid.cells.size)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not say")
def test_a_method_that_takes_over_is_counted():
    import numpy as np

    from relaxon.server.solving import footprint
    from relaxon.solvers import PoissonGrid

    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-c", RESCUED], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    fallbacks, most = json.loads(done.stdout)
    shape = (64, 64, 64)
    grid = PoissonGrid(np.zeros(shape, np.uint8), boundary="dirichlet", coefficient=np.ones(shape))
    assert fallbacks > 0
    assert most <= sum(footprint.grid_setup("dcdm", grid)) + 16 * grid.cells.size + SLACK


def test_a_method_that_takes_over_never_asks_for_most_of_the_machine(monkeypatch):
    from relaxon.solvers.dcdm import rescue

    cells = 1_000_000
    monkeypatch.setattr(rescue, "find_machine_memory", lambda: 500_000_000)
    assert rescue.rescue_bytes(cells) == rescue.FACTOR_BYTES * cells
    monkeypatch.setattr(rescue, "find_machine_memory", lambda: 5_000_000_000)
    assert rescue.rescue_bytes(cells) == rescue.MULTIGRID_BYTES * cells
