"""What `relaxon solve` prints can be read at 80 columns, and nothing in it is cut."""

import io

import numpy as np
import pytest
from rich.console import Console

from relaxon.cli import contest, report
from relaxon.cli.contest import Run
from relaxon.cli.grid_system import GridSystem
from relaxon.solvers import PoissonGrid, list_solvers

CELLS = np.zeros((4, 5), np.uint8)
SYSTEM = GridSystem("pool", "", PoissonGrid(CELLS, boundary="dirichlet"), np.ones(CELLS.shape))


def run(solver="dcdm", seconds=0.125, iterations=12, **changes):
    values = {
        "solver": solver,
        "result": "converged",
        "iterations": iterations,
        "setup_seconds": seconds,
        "solve_seconds": 2 * seconds,
        "wall_seconds": 4 * seconds,
        "warm_up_seconds": 0.0,
        "relative_residual": 3.456e-7,
        "reported_residual": 3.456e-7,
        "meets_tolerance": True,
        "residuals": np.ones(1),
        "message": "",
        "x": None,
        "scaled_residual": 0.0,
        "backward_error": 1e-8,
        "reported_backward_error": 1e-8,
    }
    return Run(**{**values, **changes})


def printed(runs, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    report.print_table(console, SYSTEM.describe(), runs, 1e-6, "in float64 by an operator")
    return console.file.getvalue()


def rows(text):
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


EVERY = [run(entry.name, seconds, 10**4) for entry in list_solvers() for seconds in [33.333]]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_name_and_no_number_is_cut_at_any_width(width):
    text = printed(EVERY, width)
    assert "…" not in text
    found = rows(text)
    for one in EVERY:
        assert found[one.solver] == [
            "33.33", "66.67", "100.00", "1.00", "33.33", "(25%)", "10000", "3.46e-07", "yes",
        ]  # fmt: skip


def test_every_solver_fits_into_80_columns():
    assert max(len(line.rstrip()) for line in printed(EVERY).splitlines()) <= 80


def test_times_are_related_to_the_first_run():
    found = rows(printed([run("dcdm", 0.5), run("cg", 1.5)]))
    assert (found["dcdm"][3], found["cg"][3]) == ("1.00", "3.00")


def test_a_comparison_that_failed_says_why_below_the_table():
    reason = "the matrix has 10 unknowns [too many]"
    slow = run("cg", result="max_iterations", meets_tolerance=False, relative_residual=0.5)
    liar = run("pyamg-sa", meets_tolerance=False, relative_residual=0.5)
    text = " ".join(printed([run(), slow, liar, contest.refuse("scipy-direct", reason)]).split())
    assert f"scipy-direct was not run: {reason}" in text
    assert "cg did not converge: max_iterations after 12 iterations" in text
    assert "pyamg-sa reports convergence, but" in text
    assert "dcdm did not" not in text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["dcdm", "pyamg", "mg-cg"], ("dcdm", "pyamg-sa", "pyamg-rs", "mg-cg")),
        (["dcdm", "pyamg,mg-cg"], ("dcdm", "pyamg-sa", "pyamg-rs", "mg-cg")),
        (["dcdm", " cg , ic-cg,", "cg"], ("dcdm", "cg", "ic-cg")),
        (["dcdm", "pyamg-rs,pyamg"], ("dcdm", "pyamg-rs", "pyamg-sa")),
    ],
)
def test_solvers_are_named_with_spaces_or_commas(given, meant):
    assert contest.expand_names(given) == meant
