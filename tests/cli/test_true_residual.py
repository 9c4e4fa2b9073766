"""The command's own check of an answer sees what a few huge conductances hide, at any size of numbers."""

import numpy as np
import pytest

from relaxon.cli.residual import true_residual
from relaxon.solvers import CellType, PoissonGrid, gallery, solve
from relaxon.solvers.stress.trial import judge_scaled


def penalised(weight=1e10, n=10):
    """Values 1 and 3 at the ends of a box, by a penalty on the faces towards AIR: the grid, `b`, the solution."""
    cells = np.zeros((n + 2, 4, 3), np.uint8)
    cells[0] = cells[-1] = CellType.AIR
    faces = [np.ones([m + (a == axis) for a, m in enumerate(cells.shape)]) for axis in range(3)]
    faces[0][1] = faces[0][-2] = weight
    b, x = np.zeros(cells.shape), np.zeros(cells.shape)
    b[1], b[-2] = weight, 3 * weight
    x[1:-1] = (1 + 2 * np.arange(n) / (n - 1))[:, None, None]
    return PoissonGrid(cells, coefficient=faces), b, x


class Case:
    def __init__(self, grid, b):
        self.grid, self.b = grid, b


def test_an_answer_right_in_the_decided_cells_alone_is_not_believed():
    grid, b, x = penalised()
    wrong = x.copy()
    wrong[2:-2] = 0.0
    found = true_residual(grid, b, wrong)
    assert found.relative < 1e-9
    assert found.scaled > 0.1
    assert found.backward_error > 0.1
    assert not found.meets(1e-6)
    assert judge_scaled(Case(grid, b), wrong)[0] == pytest.approx(found.scaled)
    right = solve(grid, b, rtol=1e-8)
    assert true_residual(grid, b, right.x).meets(1e-8)
    assert true_residual(grid, b, right.x).backward_error == pytest.approx(right.backward_error, rel=1e-2)
    assert judge_scaled(Case(grid, b), right.x)[0] < 1e-8


@pytest.mark.parametrize("exponent", [-665, -532, 498])
def test_sizes_of_b_and_kappa_change_no_figure(exponent):
    problem = gallery.make("variable", 8)
    grid, b = problem.grid, problem.b
    x = solve(grid, b, rtol=1e-3).x
    plain = true_residual(grid, b, x)
    moved = true_residual(grid, np.ldexp(b, exponent), np.ldexp(x, exponent))
    stiff = PoissonGrid(grid.cells, grid.spacing, grid.boundary, np.ldexp(grid.coefficient, exponent))
    for other in (moved, true_residual(stiff, b, np.ldexp(x, -exponent))):
        for name in ("relative", "scaled", "backward_error", "rounding"):
            assert getattr(other, name) == pytest.approx(getattr(plain, name), rel=1e-6), name
    assert plain.relative > 1e-5
