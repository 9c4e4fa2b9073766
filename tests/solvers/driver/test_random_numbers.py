"""Solving neither reads nor writes the caller's random numbers, and gives the same bits whatever they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from relaxon.solvers import PoissonGrid, prepare, solve

pyamg = pytest.importorskip("pyamg")
SOLVERS = ("pyamg-sa", "pyamg-rs", "scipy-direct", "ic-cg", "jacobi-cg", "cg")


def grid():
    cells = np.zeros((14, 13, 12), np.uint8)
    cells[3:6, 4:8, 2:5] = 1
    return PoissonGrid(cells, boundary="dirichlet")


def system(kind):
    """A grid or its matrix, and a right-hand side."""
    poisson = grid()
    b = poisson.pack(np.random.default_rng(0).standard_normal(poisson.shape))
    return (poisson if kind == "grid" else poisson.operator().to_csr()), b


def position(state):
    """Where a global stream of NumPy stands, as something that can be compared."""
    name, keys, place, gauss, cached = state
    return name, keys.tobytes(), place, gauss, cached


@pytest.mark.parametrize("kind", ["grid", "matrix"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_seeded_global_stream_goes_on_as_if_nothing_had_been_solved(kind, solver):
    operator, b = system(kind)
    np.random.seed(7)  # noqa: NPY002 - the stream that must be left alone
    before = position(np.random.get_state())  # noqa: NPY002
    first = solve(operator, b, solver=solver)
    assert position(np.random.get_state()) == before  # noqa: NPY002
    np.random.seed(8)  # noqa: NPY002
    second = solve(operator, b, solver=solver)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.residuals, second.residuals)


@pytest.mark.parametrize("kind", ["grid", "matrix"])
def test_two_threads_at_once_give_the_bits_of_one(kind):
    operator, b = system(kind)
    alone = solve(operator, b, solver="pyamg-sa")
    np.random.seed(7)  # noqa: NPY002
    before = position(np.random.get_state())  # noqa: NPY002
    start = Barrier(2)

    def run(_):
        start.wait(60)
        return [prepare(operator, solver="pyamg-sa").solve(b).x for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        found = [x for many in pool.map(run, range(2)) for x in many]
    for x in found:
        np.testing.assert_array_equal(x, alone.x)
    assert position(np.random.get_state()) == before  # noqa: NPY002


def test_the_pyamg_that_others_import_draws_as_it_did():
    """The mended copy is private: a caller's own use of PyAMG follows the global stream, as its docstrings say."""
    matrix = grid().operator().to_csr()
    solve(matrix, np.ones(matrix.shape[0]), solver="pyamg-sa")
    weights = []
    for seed in (1, 1, 2):
        np.random.seed(seed)  # noqa: NPY002
        weights.append(pyamg.smoothed_aggregation_solver(matrix).levels[0].P.data)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_a_solver_by_a_network_leaves_torchs_global_stream_alone():
    torch = pytest.importorskip("torch")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert solve(grid(), np.ones(grid().shape), solver="dcdm-cnn", rtol=1e-2, max_iterations=20).iterations > 0
    assert torch.equal(torch.get_rng_state(), before)
