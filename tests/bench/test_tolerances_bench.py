"""The command behind docs/tolerances.md: a solver has met the measure named for it, and a wrong one would be seen."""

from pathlib import Path

import pytest

from relaxon.solvers import norms

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def tolerances(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import tolerances

    return tolerances


def test_each_solver_of_scipy_and_pyamg_stops_by_the_measure_named_for_it(tolerances):
    rows = list(tolerances.python_rows())
    assert len(rows) == 14
    assert {row.said for row in rows} == {"converged"}
    assert all(row.holds for row in rows)
    far = {(row.library.split()[0], row.solver, row.system) for row in rows if row.true > 100 * tolerances.TOLERANCE}
    assert far == {("SciPy", "minres", "laplacian"), ("SciPy", "minres", "mixed"), ("PyAMG", "gmres", "mixed")}


def test_a_solver_that_stops_by_another_measure_is_marked(tolerances):
    mixed = tolerances.systems()[1]
    x = mixed.M @ mixed.b
    marked = tolerances._row("a library", "gmres", mixed, "‖r‖/‖b‖", x, 0)
    assert not marked.holds
    assert marked.true == marked.own == norms.relative_residual(mixed.A, mixed.b, x)


def test_petsc_stops_by_each_norm_that_it_is_told(tolerances):
    if reason := tolerances.reason_to_skip():
        pytest.skip(reason)
    rows = list(tolerances.petsc_rows())
    assert all(row.holds for row in rows)
    mixed = {row.solver: row for row in rows if row.system == "mixed"}
    assert "reason -4" in mixed["cg, jacobi, unpreconditioned norm, divtol default"].said  # diverged, by its own word
    assert mixed["cg, jacobi, unpreconditioned norm, divtol 1e+10"].true <= 1.01 * tolerances.TOLERANCE
    assert mixed["cg, jacobi, default norm, divtol 1e+10"].true > 100 * tolerances.TOLERANCE
    closed = [row for row in rows if row.system == "closed"]
    assert closed[0].said == "converged"
    assert closed[0].true > 1
