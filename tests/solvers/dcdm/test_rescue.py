"""Where the cycle is too slow another method takes over, and the solve stays one in all respects."""

from functools import partial

import numpy as np

from relaxon.solvers import PoissonGrid, Result, prepare
from relaxon.solvers.dcdm import rescue
from relaxon.solvers.dcdm.rescue import FACTORED, Rescued
from relaxon.solvers.interface.engine import Monitor, Prepared


def stretched_with_jumps(n=24):
    widths = 1.3 ** np.arange(n)
    kappa = 10.0 ** np.random.default_rng(0).choice([-4.0, 4.0], (n, n, n))
    return PoissonGrid(np.zeros((n, n, n), np.uint8), (widths, 1.0, widths), "dirichlet", coefficient=kappa)


def test_stretched_cells_with_jumps_are_handed_over_to_algebraic_multigrid():
    grid = stretched_with_jumps()
    assert grid.unknowns > FACTORED[3]
    b = np.random.default_rng(1).standard_normal(grid.shape)
    prepared = prepare(grid)
    solution = prepared.solve(b)
    assert solution.converged
    assert solution.fallbacks > 0
    assert (
        solution.message == f"amg took over after {solution.iterations - solution.fallbacks} iterations with the cycle"
    )
    again = prepared.solve(b)
    assert again.converged
    assert again.message == "amg took over"


def test_where_memory_is_short_an_incomplete_factor_takes_over(monkeypatch):
    operator = stretched_with_jumps().operator()
    monkeypatch.setattr(
        rescue, "find_available_memory", lambda: 2 * rescue.MULTIGRID_BYTES * operator.grid.unknowns - 2
    )
    assert rescue.second_method(operator)[0] == "ic-cg"
    monkeypatch.setattr(rescue, "find_available_memory", lambda: 2 * rescue.MULTIGRID_BYTES * operator.grid.unknowns)
    assert rescue.second_method(operator)[0] == "amg"


class Steps(Prepared):
    """Adds 1 to `x` at each step, and records given norms."""

    def __init__(self, norms, undoes):
        self.norms, self.undoes, self.info = norms, undoes, {}

    def run(self, b, x, monitor, max_iterations):
        monitor.record(self.norms[0])
        for norm in self.norms[1:]:
            x += 1.0
            if self.undoes:
                monitor.stepped(partial(np.subtract, x, 1.0, out=x))
            monitor.record(norm)
        return Result.STAGNATED


def test_a_step_of_the_first_method_is_not_undone_after_the_second():
    first, second = Steps([1.0, 0.5, 0.6], undoes=True), Steps([0.6, 0.2, 0.7], undoes=False)
    x, monitor = np.zeros(3), Monitor(0.1)
    Rescued(first, lambda: ("second", second)).run(np.ones(3), x, monitor, 100)
    assert not monitor.undo_worse_step()
    np.testing.assert_array_equal(x, 4.0)
    assert monitor.history == [1.0, 0.5, 0.6, 0.2, 0.7]
