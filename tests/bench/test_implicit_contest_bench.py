"""The sections `svm`, `torchopt` and `error` of the implicit benchmark measure what they say."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.syspath_prepend(str(BENCH.parent / "examples" / "implicit"))


def test_every_way_computes_the_same_gradient():
    """Only ways that do the same work may be compared."""
    import implicit_svm

    data = implicit_svm.svm.load(80)
    reference = implicit_svm._reference(data)
    for name, way in implicit_svm.WAYS.items():
        tight, loose = way.gradient(data, way.settings[-1]), way.gradient(data, way.settings[0])
        assert tight == pytest.approx(reference, rel=1e-7), name
        assert abs(loose / reference - 1) > abs(tight / reference - 1), name


def test_the_compiled_descent_finds_the_solution_of_the_solver_in_torch():
    import implicit_svm
    from measuring.implicit.descent import solve_by_compiled_descent

    data, theta = implicit_svm.svm.load(80), torch.tensor(2.0, dtype=torch.float64)
    one = solve_by_compiled_descent(theta, data, tolerance=1e-12)
    torch.testing.assert_close(one, implicit_svm.svm.solve_by_projected_gradient(theta, data), rtol=0, atol=1e-7)


def test_the_loosest_setting_is_the_first_that_meets_the_target_twice():
    import implicit_svm

    errors = {1.0: 0.5, 2.0: 0.001, 3.0: 0.1, 4.0: 0.009, 5.0: 0.002, 6.0: 0.0, 7.0: 0.0}
    way = implicit_svm.Way(lambda data, setting: 1 + errors[setting], tuple(errors))
    assert implicit_svm.loosest(way, None, 1.0, 0.01) == 4.0
    with pytest.raises(RuntimeError, match="no setting meets a relative error of 1e-09"):
        implicit_svm.loosest(way._replace(settings=(1.0, 2.0, 3.0)), None, 1.0, 1e-9)


def test_the_right_answers_of_the_contest_are_right():
    import implicit_torchopt

    from relaxon.implicit import implicit

    for name, right, case in implicit_torchopt.CASES:
        told = implicit_torchopt._told(case, lambda residual, solver: implicit(solver, residual))
        assert told.startswith("refused") if right == "a refusal" else told == right, name


def test_the_exact_gradients_of_the_contest_are_exact():
    import implicit_torchopt

    for make in (lambda: implicit_torchopt._ridge(10), lambda: implicit_torchopt._wind(5)):
        residual, theta, solution, exact, symmetric = make()
        assert residual(solution, theta).abs().max() < 1e-12
        jacobian = torch.func.jacrev(residual)(solution, theta)
        assert torch.allclose(jacobian, jacobian.T) == symmetric
        slope = torch.func.jacrev(residual, 1)(solution, theta)
        torch.testing.assert_close(exact, -slope.T @ torch.linalg.solve(jacobian.T, torch.ones_like(solution)))


def test_without_torchopt_the_section_says_so(monkeypatch):
    import implicit_torchopt

    monkeypatch.delenv("RELAXON_TORCHOPT_PYTHON", raising=False)
    monkeypatch.setattr(implicit_torchopt, "find_spec", lambda name: None)
    told = io.StringIO()
    assert implicit_torchopt.run(Console(file=told, width=200), True) == {"skipped": "TorchOpt is not installed"}
    assert "RELAXON_TORCHOPT_PYTHON is not set" in told.getvalue()
