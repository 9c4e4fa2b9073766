"""What a solve has set up goes with its last user, not when the garbage collector next comes by."""

import gc
import tracemalloc

import numpy as np
import pytest

from relaxon.solvers import PoissonGrid, gallery, solve

CASES = ("pool", "variable")
SIZE = 20


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def bytes_of_arrays():
    """What NumPy's arrays take now."""
    own = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "mg-rbgs-cg", "ic-cg", "cg"])
def test_solves_in_a_row_leave_no_arrays_to_the_garbage_collector(solver, case, no_collector):
    problem = gallery.make(case, SIZE)
    given = problem.grid

    def solve_once():
        grid = PoissonGrid(given.cells, given.spacing, given.boundary, given.coefficient)
        assert solve(grid, problem.b, solver=solver).converged

    solve_once()  # compiles, and fills what stays for good
    tracemalloc.start()
    try:
        solve_once()
        before = bytes_of_arrays()
        for _ in range(2):
            solve_once()
        assert bytes_of_arrays() - before < problem.b.nbytes / 10
    finally:
        tracemalloc.stop()


def test_operators_of_a_grid_share_their_arrays():
    grid = gallery.make("variable", SIZE).grid
    first, second, single = grid.operator(), grid.operator(), grid.operator(np.float32)
    assert first.diagonal is second.diagonal
    assert all(one is other for one, other in zip(first.couplings, second.couplings, strict=True))
    assert single.diagonal.dtype == np.float32
    coded = gallery.make("pool", SIZE).grid
    assert coded.operator().planes is coded.operator().planes
