"""A right-hand side comes back in the form it came in, and what cannot be taken is refused with the way on."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from relaxon.solvers import PoissonGrid, solve, solve_many

N = 60
A = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(N, N)).tocsr()
GRID = PoissonGrid(np.zeros((5, 6), np.uint8), boundary="dirichlet")
B = np.random.default_rng(3).normal(size=(N, 3))


@pytest.mark.parametrize("x0", [None, np.ones(N), np.ones((N, 1))])
@pytest.mark.parametrize("factor", [1.0, 1.0 - 2.0j])
def test_a_column_is_solved_as_the_vector_and_given_back_as_a_column(factor, x0):
    column = factor * B[:, :1]
    solution = solve(A, column, x0=x0)
    assert solution.x.shape == (N, 1)
    assert np.array_equal(solution.x[:, 0], solve(A, column[:, 0], x0=None if x0 is None else x0.reshape(-1)).x)


def test_a_column_of_a_grid_s_unknowns_is_given_back_as_a_column():
    b = np.random.default_rng(4).normal(size=(GRID.unknowns, 1))
    solution = solve(GRID, b, solver="cg")
    assert solution.x.shape == b.shape
    assert np.array_equal(solution.x[:, 0], solve(GRID, b[:, 0], solver="cg").x)
    thin = PoissonGrid(np.zeros((7, 1), np.uint8), boundary="dirichlet")
    assert solve(thin, np.ones((7, 1)), solver="cg").x.shape == (7, 1)


@pytest.mark.parametrize(("operator", "unknowns"), [(A, N), (GRID, GRID.unknowns)])
def test_columns_are_refused_with_the_call_that_takes_them(operator, unknowns):
    columns = np.ones((unknowns, 4))
    with pytest.raises(ValueError, match=rf"^b must have shape \({unknowns},\).*call solve_many\(A, b\.T\)$"):
        solve(operator, columns)
    with pytest.raises(ValueError, match=r"^b must hold a right-hand side in each row.*pass b\.T$"):
        solve_many(operator, columns)
    assert [one.x.shape for one in solve_many(operator, columns.T)] == [(unknowns,)] * 4


@pytest.mark.parametrize("operator", [A, GRID])
@pytest.mark.parametrize("name", ["b", "x0"])
def test_a_sparse_array_and_a_tensor_with_gradients_are_refused_with_what_to_pass(operator, name):
    size = operator.shape[0] if operator is A else operator.unknowns
    sparse, tensor = sp.csr_array(np.ones((size, 1))), torch.ones(size, dtype=torch.float64, requires_grad=True)
    for given, way in ((sparse, rf"pass {name}\.toarray\(\)"), (tensor, rf"pass {name}\.detach\(\)")):
        arguments = {"b": np.ones(size), name: given}
        with pytest.raises(TypeError, match=rf"^{name} must .*{way}"):
            solve(operator, **arguments)
    assert solve(operator, tensor.detach()).converged
    assert solve(operator, sparse.toarray()).converged


def changed(row, column, value):
    matrix = A.tolil(copy=True)
    matrix[row, column] = value
    return matrix.tocsr()


def test_an_assembly_s_rounding_is_solved_and_told_as_the_mean_is_without_a_word():
    matrix = changed(3, 4, -1.0 - 2.5e-9)
    solution = solve(matrix, B[:, 0], rtol=1e-10)
    assert solution.converged
    assert "but for rounding: a[3, 4] = " in solution.message
    mean = solve((matrix + matrix.T) / 2, B[:, 0], rtol=1e-10)
    assert "rounding" not in mean.message
    assert np.allclose(mean.x, solution.x, rtol=1e-6)


def test_a_matrix_that_is_not_meant_to_be_symmetric_is_solved_as_it_is():
    matrix = changed(3, 4, -0.5)
    solution = solve(matrix, B[:, 0], rtol=1e-10)
    assert "nonsymmetric matrix (a[3, 4] = -0.5 and a[4, 3] = -1)" in solution.message
    assert np.allclose(solution.x, np.linalg.solve(matrix.toarray(), B[:, 0]))


def test_dirichlet_rows_with_their_columns_kept_are_solved_as_by_their_elimination():
    rows, values = [0, 7, N - 1], np.array([1.0, -2.0, 3.0])
    matrix, b = A.tolil(copy=True), B[:, 0].copy()
    for row, value in zip(rows, values, strict=True):
        matrix[row, :] = 0.0
        matrix[row, row], b[row] = 2.0, 2.0 * value
    matrix = matrix.tocsr()
    of_rows = solve(matrix, b, rtol=1e-12)
    exact = np.linalg.solve(matrix.toarray(), b)
    eliminated = matrix.tolil()
    for row, value in zip(rows, values, strict=True):
        others = np.arange(N) != row
        b[others] -= matrix[:, [row]].toarray()[others, 0] * value
        eliminated[others, row] = 0.0
    assert np.allclose(solve(eliminated.tocsr(), b, rtol=1e-12).x, exact, atol=1e-10)
    assert np.allclose(of_rows.x, exact, atol=1e-10)
    assert of_rows.info["eliminated"] == len(rows)
