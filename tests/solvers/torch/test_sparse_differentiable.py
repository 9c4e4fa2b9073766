"""Derivatives of sparse solves: against finite differences, against dense inverses, on the pattern alone, twice."""

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from relaxon.solvers import Result, SingularSystemError, gallery, prepare
from relaxon.solvers.torch import NotConvergedError, sparse_solve

EXACT = {"solver": "scipy-direct", "rtol": 1e-13}


def tensor(array, grad=False):
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=grad)


def small(n=7, seed=0):
    """A random symmetric matrix, the places of its lower half and their values: all that may vary."""
    rng = np.random.default_rng(seed)
    i, j = np.tril_indices(n)
    kept = (i == j) | (rng.random(len(i)) < 0.5)
    i, j = i[kept], j[kept]
    values = np.where(i == j, 4.0 + rng.random(len(i)), -rng.random(len(i)))
    return n, i, j, values


def symmetric(n, i, j):
    """A pattern with both halves, and the map from the lower half's values to those of the pattern."""
    half = sparse.coo_array((np.arange(1.0, len(i) + 1), (i, j)), shape=(n, n))
    whole = sparse.csr_array(half + sparse.tril(half, -1).T)
    source = torch.from_numpy(whole.data.astype(np.int64) - 1)
    return whole, lambda lower: lower[source]


@pytest.mark.parametrize("columns", [(), (3,)])
def test_derivatives_in_b_and_in_values_are_those_of_finite_differences_twice(columns):
    n, i, j, values = small()
    pattern, spread = symmetric(n, i, j)
    b = tensor(np.random.default_rng(1).standard_normal((n, *columns)), grad=True)
    lower = tensor(values, grad=True)

    def function(lower, b):
        return sparse_solve((pattern, spread(lower)), b, **EXACT)

    assert torch.autograd.gradcheck(function, (lower, b))
    assert torch.autograd.gradgradcheck(function, (lower, b), fast_mode=True, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["csr", "coo", "scipy csc", "scipy coo"])
def test_the_gradient_is_minus_lambda_times_x_on_the_pattern(kind):
    n, i, j, values = small()
    pattern, spread = symmetric(n, i, j)
    a = sparse.csr_array((spread(tensor(values)).numpy(), pattern.indices, pattern.indptr), shape=(n, n))
    b, weight = np.random.default_rng(2).standard_normal((2, n))
    dense = a.toarray()
    x, adjoint = np.linalg.solve(dense, b), np.linalg.solve(dense, weight)
    expected = np.where(dense != 0, -np.outer(adjoint, x), 0.0)
    side = tensor(b, grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's sparse layouts are in beta
        if kind.startswith("scipy"):
            given = a.asformat(kind.split()[1])
            leaf = tensor(given.data, grad=True)
            found = sparse_solve((given, leaf), side, **EXACT)
        else:
            leaf = tensor(dense).to_sparse_csr() if kind == "csr" else tensor(dense).to_sparse_coo()
            found = sparse_solve(leaf.requires_grad_(), side, **EXACT)
        (tensor(weight) @ found).backward()
    np.testing.assert_allclose(found.detach(), x, rtol=1e-10)
    np.testing.assert_allclose(side.grad, adjoint, rtol=1e-10)
    if kind.startswith("scipy"):
        placed = given.tocoo()
        gradient = sparse.coo_array((leaf.grad.numpy(), (placed.row, placed.col)), shape=(n, n)).toarray()
    else:
        assert leaf.grad.layout == leaf.layout
        gradient = leaf.grad.to_dense().numpy()
    np.testing.assert_allclose(gradient, expected, atol=1e-10)


def test_entries_stored_twice_are_summed_and_each_gets_the_gradient():
    indices = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 1]])
    values = tensor([1.0, 2.0, -1.0, -1.0, 2.0], grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = sparse_solve(torch.sparse_coo_tensor(indices, values, (2, 2)), tensor([1.0, 0.0]), **EXACT)
        x.sum().backward()
    np.testing.assert_allclose(x.detach(), [0.4, 0.2])
    assert values.grad[0] == values.grad[1] != 0
    pattern = sparse.coo_array((np.ones(5), (indices[0].numpy(), indices[1].numpy())), shape=(2, 2))
    again = tensor(values.detach(), grad=True)
    sparse_solve((pattern, again), tensor([1.0, 0.0]), **EXACT).sum().backward()
    np.testing.assert_allclose(again.grad, values.grad)


def test_taylor_s_remainder_falls_with_the_square_of_the_step():
    pattern = gallery.matrix("triangles-2d", 300)
    b, weight = (tensor(v) for v in np.random.default_rng(0).standard_normal((2, pattern.shape[0])))
    scale = tensor(np.random.default_rng(1).standard_normal(pattern.shape[0]))

    def loss(step):
        root = torch.exp(step * scale / 2)  # a congruence keeps A symmetric and definite
        placed = pattern.tocoo()
        values = tensor(placed.data) * root[torch.tensor(placed.row)] * root[torch.tensor(placed.col)]
        return weight @ sparse_solve((placed, values), b, solver="amg", rtol=1e-12)

    step = tensor(0.0, grad=True)
    base = loss(step)
    (slope,) = torch.autograd.grad(base, step)
    remainders = [abs(float((loss(tensor(h)) - base - h * slope).detach())) for h in (1e-2, 5e-3)]
    assert remainders[0] / remainders[1] == pytest.approx(4.0, rel=0.05)


def test_one_set_up_serves_a_prepared_matrix_both_ways_and_leaves_it_constant(monkeypatch):
    a = gallery.matrix("laplacian-2d", 400)
    prepared = prepare(a * 2.0**300, solver="amg")
    log = []
    b = tensor(np.random.default_rng(0).standard_normal((a.shape[0], 2)) * 2.0**300, grad=True)
    x = sparse_solve(prepared, b, rtol=1e-10, log=log)
    (gradient,) = torch.autograd.grad((x**2).sum(), b)
    assert [purpose for purpose, _ in log] == ["forward"] * 2 + ["adjoint"] * 2
    assert len({solution.setup_seconds for _, solution in log}) == 1
    dense = np.linalg.inv(a.toarray()) / 2.0**300
    np.testing.assert_allclose(gradient, 2 * dense @ x.detach().numpy(), rtol=1e-6)


def test_the_wider_dtype_is_returned_and_gradients_have_that_of_their_tensors():
    pattern = gallery.matrix("laplacian-2d", 100)
    values = torch.tensor(pattern.data.astype(np.float32), requires_grad=True)
    b = torch.ones(pattern.shape[0], requires_grad=True)
    x = sparse_solve((pattern, values), b)
    x.sum().backward()
    assert x.dtype == values.grad.dtype == b.grad.dtype == torch.float32
    assert sparse_solve((pattern, values), b.double()).dtype == torch.float64
    start = x.detach()
    log = []
    sparse_solve((pattern, values), b, x0=start, rtol=1e-4, solver="cg", log=log)
    assert log[0][1].iterations == 0


def test_a_singular_matrix_s_gradient_is_projected():
    pattern = gallery.matrix("neumann-2d", 100)
    b = tensor(pattern @ np.random.default_rng(0).standard_normal(pattern.shape[0]), grad=True)
    weight = tensor(np.random.default_rng(1).standard_normal(pattern.shape[0]))
    values = tensor(pattern.data)
    x = sparse_solve((pattern, values), b, rtol=1e-11)
    (weight @ x).backward()
    assert abs(float(b.grad.sum())) < 1e-8
    np.testing.assert_allclose(b.grad, np.linalg.pinv(pattern.toarray()) @ weight.numpy(), atol=1e-7)
    with pytest.raises(SingularSystemError):
        sparse_solve((pattern, values), b + 1.0)
    np.testing.assert_allclose(
        sparse_solve((pattern, values), b + 1.0, inconsistent="project", rtol=1e-11).detach(), x.detach(), atol=1e-7
    )


def test_not_converging_is_an_error_or_in_the_log():
    pattern = gallery.matrix("laplacian-2d", 400)
    values, b = tensor(pattern.data), tensor(np.ones(pattern.shape[0]), grad=True)
    few = {"solver": "cg", "rtol": 1e-10, "max_iterations": 2}
    with pytest.raises(NotConvergedError, match="^the forward solve ended MAX_ITERATIONS after 2 iterations"):
        sparse_solve((pattern, values), b, **few)
    log = []
    sparse_solve((pattern, values), b, **few, unconverged="record", log=log).sum().backward()
    assert [solution.result for _, solution in log] == [Result.MAX_ITERATIONS] * 2
    x = sparse_solve((pattern, values), b, rtol=1e-10)
    with pytest.raises(ValueError, match="gradient that came back to sparse_solve must be finite"):
        (x * torch.tensor(np.nan)).sum().backward()


def refusals():
    pattern = gallery.matrix("laplacian-2d", 64)
    n, values = pattern.shape[0], torch.tensor(pattern.data)
    b, good = torch.ones(n, dtype=torch.float64), (pattern, values)
    yield (
        (pattern, b),
        {},
        TypeError,
        r"A must be a sparse torch tensor, .* take \(matrix, torch.tensor\(matrix.data\)\)",
    )
    yield (torch.eye(n), b), {}, TypeError, "A must be in CSR or COO layout, got torch.strided"
    yield (torch.eye(n).to_sparse_csc(), b), {}, TypeError, "A must be in CSR or COO layout, got torch.sparse_csc"
    yield (torch.ones(n, 3).to_sparse_coo(), b), {}, ValueError, r"A must be a square matrix .* got shape"
    yield (torch.eye(n, dtype=torch.int64).to_sparse_csr(), b), {}, TypeError, "A must hold float32 or float64"
    yield ((pattern.toarray(), values), b), {}, TypeError, r"A\[0\] must be a SciPy sparse matrix, got ndarray"
    yield ((pattern.tolil(), values), b), {}, TypeError, r"A\[0\] must be in CSR, CSC or COO format, .* got 'lil'"
    yield ((pattern, values[1:]), b), {}, ValueError, r"A\[1\] must have shape"
    yield ((pattern, values * np.nan), b), {}, ValueError, r"A\[1\] must be finite"
    yield ((pattern, values[:, None]), b), {}, ValueError, r"A\[1\] must have shape"
    yield (good, b.numpy()), {}, TypeError, "b must be a torch tensor, got ndarray"
    yield (good, b.long()), {}, TypeError, "b must be float32 or float64"
    yield (good, b[1:]), {}, ValueError, rf"b must have shape \({n},\) or \({n}, k\), got"
    yield (good, b.reshape(1, n)), {}, ValueError, "b must have shape"
    yield (good, b), {"x0": torch.ones(n, 2)}, ValueError, "x0 must have the shape of b"
    yield (good, b), {"rtol": 0.0}, ValueError, "rtol must be"
    yield (good, b), {"unconverged": "record"}, ValueError, "log must be a list"
    yield (good, b), {"solver": "no-such"}, ValueError, "solver must be one of"
    yield (prepare(pattern), b), {"solver": "cg"}, ValueError, "solver must be left out beside a prepared solver"
    skewed = pattern.copy()
    skewed.data = np.where(np.arange(pattern.nnz) == 1, -0.5, skewed.data)
    yield ((skewed, torch.tensor(skewed.data)), b), {}, ValueError, "symmetric"


@pytest.mark.parametrize("case", range(20))
def test_a_mistake_is_refused_by_its_name(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments, options, error, text = list(refusals())[case]
    with pytest.raises(error, match=text):
        sparse_solve(*arguments, **options)


def test_a_map_over_values_gives_each_its_own_gradient():
    n, i, j, values = small()
    pattern, spread = symmetric(n, i, j)
    b = tensor(np.ones(n))
    several = torch.stack([tensor(values), tensor(values) * 2.0])

    def loss(lower):
        return sparse_solve((pattern, spread(lower)), b, **EXACT).sum()

    mapped = torch.func.vmap(torch.func.grad(loss))(several)
    for row, lower in zip(mapped, several, strict=True):
        leaf = lower.clone().requires_grad_()
        (alone,) = torch.autograd.grad(loss(leaf), leaf)
        np.testing.assert_allclose(row, alone, rtol=1e-9)
