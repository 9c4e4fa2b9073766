"""Right-hand sides in a thread each: their answers have the bits of single solves, in any number of threads."""

import threading

import numpy as np
import pytest

from relaxon.solvers import DeepConjugateDirectionCycle, PoissonGrid, gallery, prepare, solve_many
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.kernels.threads import num_threads

COUNTS = (1, 2, 4)


def problem(varying, shape=(14, 12, 13)):
    given = gallery.make("variable" if varying else "spheres", shape, seed=3)
    random = np.random.default_rng(1)
    return given.grid, np.where(given.grid.fluid, random.standard_normal((5, *shape)), 0.0)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "mg-rbgs-cg", "cg", "jacobi-cg", "ic-cg"])
def test_answers_are_those_of_single_solves(solver, varying):
    grid, sides = problem(varying)
    single = [prepare(grid, solver=solver).solve(b) for b in sides]
    for count in COUNTS:
        with num_threads(count):
            together = solve_many(grid, sides, solver=solver)
        for one, other in zip(single, together, strict=True):
            np.testing.assert_array_equal(other.x, one.x)
            np.testing.assert_array_equal(other.residuals, one.residuals)
            assert other.converged


def test_a_box_is_solved_directly_for_all():
    grid = PoissonGrid(np.zeros((11, 9, 10), np.uint8), boundary="dirichlet")
    sides = np.random.default_rng(1).standard_normal((6, *grid.shape))
    with num_threads(2):
        for b, solution in zip(sides, solve_many(grid, sides, solver="auto", rtol=1e-11), strict=True):
            np.testing.assert_array_equal(solution.x, prepare(grid, solver="auto").solve(b, rtol=1e-11).x)


def test_each_stops_when_it_has_met_its_own_tolerance():
    grid, sides = problem(False)
    starts = [None, prepare(grid).solve(sides[1], rtol=1e-10).x, None, np.zeros(grid.shape), None]
    with num_threads(2):
        found = solve_many(grid, sides, x0=starts, rtol=1e-6)
    assert [solution.iterations > 0 for solution in found] == [True, False, True, True, True]


def test_complex_right_hand_sides_have_both_parts():
    grid, sides = problem(False)
    both = sides[:4] + 1j * sides[1:]
    with num_threads(2):
        found = solve_many(grid, both, rtol=1e-8)
    for b, solution in zip(both, found, strict=True):
        np.testing.assert_array_equal(solution.x, prepare(grid).solve(b, rtol=1e-8).x)


@pytest.mark.parametrize("first_too", [False, True])
def test_help_that_one_needs_changes_no_other(monkeypatch, first_too):
    """Where the second method takes over for a right-hand side, the next one begins with the first method still.

    If it takes over for the first one, it does so at once for all others, in any number of threads.
    """
    from relaxon.solvers.dcdm import rescue

    monkeypatch.setattr(rescue, "WATCHED", 3)
    monkeypatch.setattr(rescue, "PATIENCE", 3)
    grid, sides = problem(False)
    starts = [None if first_too else prepare(grid, solver="cg").solve(sides[0], rtol=1e-11).x, *[None] * 4]
    kept = None
    for count in COUNTS:
        with num_threads(count):
            found = solve_many(grid, sides, solver=DeepConjugateDirectionCycle(), x0=starts, rtol=1e-9)
        bits = [solution.x for solution in found]
        kept = kept or bits
        assert (found[0].fallbacks > 0) == first_too
        assert first_too or all(solution.fallbacks > 0 for solution in found[1:])
        for one, other in zip(kept, bits, strict=True):
            np.testing.assert_array_equal(other, one)


def test_an_error_in_one_thread_is_raised_and_the_others_end(monkeypatch):
    grid, sides = problem(False)
    answer, begun = PreparedSolver.answer, []

    def failing(self, request, callback=None, x0=None):
        begun.append(threading.get_ident())
        if len(begun) == 3:
            raise ZeroDivisionError("the third")
        return answer(self, request, callback, x0)

    monkeypatch.setattr(PreparedSolver, "answer", failing)
    with num_threads(2), pytest.raises(ZeroDivisionError, match="the third"):
        solve_many(grid, np.concatenate([sides] * 4))
    assert len(begun) < 10
    monkeypatch.undo()
    with num_threads(2):
        assert all(solution.converged for solution in solve_many(grid, sides))


def test_no_more_twins_are_made_than_memory_holds(monkeypatch):
    from relaxon.solvers.driver import side_by_side

    grid, sides = problem(False)
    made, answer = [], PreparedSolver.answer

    def noted(self, request, callback=None, x0=None):
        made.append(id(self.engine))
        return answer(self, request, callback, x0)

    monkeypatch.setattr(PreparedSolver, "answer", noted)
    monkeypatch.setattr(side_by_side, "find_available_memory", lambda: 100 * grid.cells.size)
    with num_threads(4):
        solve_many(grid, sides)
    assert len(set(made)) == 1


def test_a_callback_is_called_in_the_caller_s_thread_one_solve_after_the_other():
    grid, sides = problem(False)
    seen = []
    with num_threads(2):
        solve_many(grid, sides, callback=lambda progress: seen.append((threading.get_ident(), progress.iteration)))
    assert {ident for ident, _ in seen} == {threading.get_ident()}
    assert [iteration for _, iteration in seen].count(0) == len(sides)
