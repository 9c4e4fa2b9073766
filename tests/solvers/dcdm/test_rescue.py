"""The hand-over to another method: when it happens, what is said of it, and that no better iterate is lost."""

import numpy as np
import pytest

from relaxon.cli.residual import true_residual
from relaxon.solvers import PoissonGrid, Result, gallery, prepare, solve
from relaxon.solvers.dcdm import rescue
from relaxon.solvers.dcdm.coupling_choice import FEATURES, Candidate, CouplingChoice
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.interface.engine import Prepared

FOLLOWING = CouplingChoice((Candidate(2),), np.zeros((1, FEATURES)), np.zeros(1), np.zeros((1, 1)), np.zeros(1))
"""The cycle whose transfers follow the couplings, whatever the grid."""


def jumping(n):
    """Return a grid with κ jumping by 10⁶ at random on stretched cells, where that cycle stagnates, and a `b`."""
    rng = np.random.default_rng(0)
    widths = 1.2 ** np.abs(np.arange(n) - (n - 1) / 2)
    kappa = 1e6 ** rng.integers(0, 2, (n,) * 3).astype(float)
    grid = PoissonGrid(np.zeros(kappa.shape, np.uint8), (widths / widths.sum(),) * 3, "dirichlet", kappa)
    return grid, rng.standard_normal(grid.shape)


def test_algebraic_multigrid_takes_over_where_the_cycle_stagnates_and_the_message_says_so():
    grid, b = jumping(28)
    alone = solve(grid, b, solver=DeepConjugateDirectionCycle(rescue=False, choice=FOLLOWING))
    rescued = solve(grid, b, solver=DeepConjugateDirectionCycle(choice=FOLLOWING))
    assert not alone.converged
    assert rescued.converged
    assert true_residual(grid, b, rescued.x).meets(1e-6)
    assert rescued.message == "amg took over"
    assert rescued.fallbacks == rescued.iterations - rescue.WATCHED
    assert len(rescued.residuals) == rescued.iterations + 1


class Worsening(Prepared):
    """Moves `x` away from the solution a step at a time, and ends with `result`."""

    def __init__(self, operator, result):
        self.operator, self.result, self.info = operator, result, {}

    def run(self, b, x, monitor, max_iterations):
        for step in range(4):
            if step:
                x *= 1.5
            monitor.record(np.linalg.norm(b - self.operator.apply(x, np.empty_like(x))))
        return self.result


@pytest.mark.parametrize("result", [Result.STAGNATED, Result.CANCELLED])
def test_a_method_that_takes_over_in_vain_leaves_the_better_iterate(monkeypatch, result):
    def list_worsening(operator):
        return (rescue.Method("worse", lambda: Worsening(operator, result)),)

    monkeypatch.setattr(rescue, "WATCHED", 3)
    monkeypatch.setattr(rescue, "PATIENCE", 0)
    monkeypatch.setattr(rescue, "list_methods", list_worsening)
    problem = gallery.make("spheres", 20)
    found = solve(problem.grid, problem.b, solver="dcdm", rtol=1e-9)
    three = solve(problem.grid, problem.b, solver=DeepConjugateDirectionCycle(rescue=False), max_iterations=3)
    assert found.result is result
    assert found.true_residual == pytest.approx(three.true_residual, rel=1e-6)
    assert found.true_residual < found.residuals[-1]
    np.testing.assert_array_equal(found.x, three.x)


def test_a_step_of_the_first_method_is_not_undone_in_the_iterate_of_the_next(monkeypatch):
    """The last of the first method's steps, held to be undone, must not be taken from what came after it."""

    class Slower(Prepared):
        def __init__(self):
            self.info = {}

        def run(self, b, x, monitor, max_iterations):
            start = np.linalg.norm(b - operator.apply(x, np.empty_like(x)))
            x[...] += 1e-4 * (exact - x)
            better = np.linalg.norm(b - operator.apply(x, np.empty_like(x)))
            for norm in (start, 2 * start, better):  # the second to last one is larger, and so is the last one
                monitor.record(norm)
            monitor.record(1.5 * better)
            return Result.STAGNATED

    monkeypatch.setattr(rescue, "WATCHED", 3)
    monkeypatch.setattr(rescue, "PATIENCE", 0)
    monkeypatch.setattr(rescue, "list_methods", lambda _: (rescue.Method("slower", Slower),))
    problem = gallery.make("spheres", 20)
    operator = problem.grid.operator()
    exact = solve(problem.grid, problem.b, solver="mg-cg", rtol=1e-12).x
    three = solve(problem.grid, problem.b, solver=DeepConjugateDirectionCycle(rescue=False), max_iterations=3)
    found = solve(problem.grid, problem.b, solver="dcdm", rtol=1e-9)
    np.testing.assert_allclose(found.x, three.x + 1e-4 * (exact - three.x), rtol=1e-9, atol=1e-12)


def test_the_next_method_is_tried_where_one_cannot_be_set_up(monkeypatch):
    def refuse():
        raise RuntimeError("singular to rounding")

    methods = rescue.list_methods
    monkeypatch.setattr(rescue, "list_methods", lambda o: (rescue.Method("none", refuse), *methods(o)))
    grid, b = jumping(20)
    solution = solve(grid, b, solver=DeepConjugateDirectionCycle(choice=FOLLOWING))
    assert solution.converged
    assert solution.message == "a factorisation took over"


def test_a_small_memory_leaves_the_incomplete_factor(monkeypatch):
    monkeypatch.setattr(rescue, "find_machine_memory", lambda: 1_000_000)
    names = [method.name for method in rescue.list_methods(jumping(28)[0].operator())]
    assert names == ["ic-cg"]


def test_slabs_are_factored_like_planes_and_larger_systems_only_as_a_last_resort():
    def names(*shape):
        grid = PoissonGrid(np.zeros(shape, np.uint8), boundary="dirichlet")
        return [method.name for method in rescue.list_methods(grid.operator())]

    assert names(120, 1, 130) == names(120, 130) == ["a factorisation", "amg", "ic-cg"]
    assert names(25, 25, 25) == names(350, 350) == ["amg", "a factorisation", "ic-cg"]
    assert names(40, 40, 40) == ["amg", "ic-cg"]


def long_cells(**arguments):
    """Return a box of cells up to 20 times as long as wide, in either direction."""
    widths = 1.1 ** np.arange(32)
    return PoissonGrid(np.zeros((32, 32), np.uint8), (widths, widths), "dirichlet", **arguments)


def test_a_box_of_long_cells_is_solved_directly_and_the_message_says_so():
    grid = long_cells(coefficient=np.outer(np.arange(1.0, 33.0), np.linspace(1.0, 2.0, 32)))
    b = np.random.default_rng(0).standard_normal(grid.shape)
    solution = solve(grid, b, rtol=1e-10)
    assert solution.converged
    assert solution.iterations <= 2
    assert "fast diagonalisation took over" in solution.message
    cycles = solve(grid, b, solver=DeepConjugateDirectionCycle(rescue=False), rtol=1e-10)
    assert cycles.iterations > 5
    np.testing.assert_allclose(solution.x, cycles.x, rtol=1e-6, atol=1e-8 * np.abs(cycles.x).max())


def test_the_cycle_keeps_long_cells_that_are_all_alike_or_lie_among_obstacles_or_whose_coefficients_are_no_products():
    cells, rough = np.zeros((32, 32), np.uint8), 1.0 + np.random.default_rng(0).random((32, 32))
    cells[5:9, 5:9] = 1
    alike = PoissonGrid(np.zeros((32, 32), np.uint8), (1.0, 20.0), "dirichlet")
    among = PoissonGrid(cells, long_cells().spacing, "dirichlet")
    for grid in (alike, among, long_cells(coefficient=rough)):
        solution = solve(grid, np.where(grid.fluid.reshape(grid.shape), rough, 0.0))
        assert solution.converged
        assert "diagonalisation" not in solution.message


def test_a_solve_that_is_prepared_for_long_cells_follows_new_coefficients_into_either_method():
    b = np.ones((32, 32))
    rough = long_cells(coefficient=1.0 + np.random.default_rng(0).random((32, 32)))
    prepared = prepare(long_cells())
    changed = prepared.update(rough)
    back = changed.update(long_cells())
    assert ["diagonalisation" in one.solve(b).message for one in (prepared, changed, back)] == [True, False, True]
