"""Sparse matrices on the server: the answers of the solve in process, and refusals by name, from both clients."""

import numpy as np
import pytest
from both import KINDS, given, listed, play
from kept_sessions import MadeSince
from laplacians import grid_matrix, laplacian
from scipy import sparse

from relaxon import client as errors
from relaxon.client import MatrixStep
from relaxon.solvers import prepare, solve

N = 60


FORMS = {
    "csr": lambda: laplacian().tocsr(),
    "csc": lambda: laplacian().tocsc(),
    "coo, entries twice": lambda: sparse.coo_array(
        ([1.0] * N + [1.5] * N, ([*range(N)] * 2, [*range(N)] * 2)), shape=(N, N)
    ),
    "float32": lambda: laplacian(dtype=np.float32).tocsr(),
    "integers": lambda: sparse.diags_array([-1, 3, -1], offsets=[-1, 0, 1], shape=(N, N), dtype=int),
    "64-bit indices": lambda: _wide(laplacian().tocsr()),
    "singular by constants": lambda: sparse.csr_array(
        sparse.diags_array([np.r_[1.0, np.full(N - 2, 2.0), 1.0], -np.ones(N - 1), -np.ones(N - 1)], offsets=[0, 1, -1])
    ),
}


def _wide(matrix):
    matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return matrix


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_solve_is_that_in_process_bit_for_bit(embedded, kind, form):
    matrix = FORMS[form]()
    rng = np.random.default_rng(4)
    b, x0 = rng.standard_normal(N), rng.standard_normal(N)
    if form.startswith("singular"):
        b -= b.mean()
    calls = [(b, {}), (b, {"x0": x0, "solver": "jacobi-cg"}), (b * (1 - 2j), {"solver": "ic-cg"})]
    calls += [(b.astype(np.float32), {"solver": "cg"}), (b, {"solver": "amg"})]

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        assert (kept.unknowns, kept.entries) == (N, matrix.tocsr().nnz if "twice" not in form else N)
        assert kept.singular_components == form.startswith("singular")
        assert f"{N} unknowns" in repr(kept)
        found = [await given(kept.solve(one, rtol=1e-9, **options)) for one, options in calls]
        many = await given(kept.solve_many([b, 2 * b], solver="cg"))
        await given(kept.delete())
        return found, many

    found, many = play(kind, embedded.target, scenario)
    for (one, options), theirs in zip(calls, found, strict=True):
        ours = solve(matrix, one, rtol=1e-9, **options)
        assert theirs.converged
        np.testing.assert_array_equal(theirs.x, ours.x)
        assert theirs.solver == ours.solver
    for theirs, scale in zip(many, (1, 2), strict=True):
        np.testing.assert_array_equal(theirs.x, solve(matrix, scale * b, solver="cg").x)


@pytest.mark.parametrize("kind", KINDS)
def test_large_vectors_are_handed_over(embedded, kind):
    matrix = grid_matrix(400)
    b = np.random.default_rng(0).standard_normal(400**2)
    ours = solve(matrix, b, solver="cg", max_iterations=3)

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        assert kept._handover.file is not None
        return [(await given(kept.solve(b, solver="cg", max_iterations=3))).x for _ in range(3)]

    for x in play(kind, embedded.target, scenario):
        np.testing.assert_array_equal(x, ours.x)


BAD = {
    "no matrix": np.eye(3),
    "not square": sparse.csr_array((3, 4)),
    "empty": sparse.csr_array((0, 0)),
    "without entries": sparse.csr_array((3, 3)),
    "an empty column": sparse.csr_array([[0.0, 1.0], [0.0, 2.0]]),
    "NaN": sparse.csr_array(np.diag([1.0, np.nan, 1.0])),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_matrix_is_refused_by_name(embedded, kind, name):
    made = MadeSince(embedded)
    with pytest.raises(errors.InvalidArgument) as caught:
        play(kind, embedded.target, lambda client: given(client.linear.matrix(BAD[name])))
    assert caught.value.field == "matrix"
    assert str(caught.value).startswith("matrix ")
    assert len(made) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_that_is_gone_is_lost_and_a_grid_is_none(embedded, kind):
    async def scenario(client):
        names = [one.name for one in await given(client.linear.list_solvers())]
        assert {"auto", "amg", "dcdm", "cg", "ic-cg"} <= set(names)
        kept = await given(client.linear.matrix(laplacian()))
        assert (await given(kept.solve(np.ones(N), solver="dcdm"))).message.startswith("constants of the network")
        grid = await given(client.poisson.grid(np.zeros((6, 10), np.uint8), boundary="dirichlet"))
        with pytest.raises(errors.InvalidArgument, match="solver must be"):
            await given(kept.solve(np.ones(N), solver="mg-cg"))
        with pytest.raises(errors.InvalidArgument, match=r"b must have shape \(60,\)"):
            await given(kept.solve(np.ones(N + 1)))
        kept.id, grid.id = grid.id, kept.id
        with pytest.raises(errors.GridLost):
            await given(kept.solve(np.ones(N)))
        with pytest.raises(errors.NotFound):
            await given(kept.delete())
        with pytest.raises(errors.GridLost):
            await listed(grid.solve_steps([np.ones((6, 10))]))
        kept.id, grid.id = grid.id, kept.id
        await given(kept.delete())
        with pytest.raises(errors.NotFound):
            await given(kept.solve(np.ones(N)))

    play(kind, embedded.target, scenario)


def shifted(kind):
    """A matrix of another kind: `A` with convection, with a shift that makes it indefinite, or a complex one."""
    a = laplacian().tocsr()
    if kind == "nonsymmetric":
        return sparse.csr_array(a + sparse.diags_array([-0.4, 0.4], offsets=[-1, 1], shape=(N, N)))
    if kind == "symmetric-indefinite":
        return sparse.csr_array(a - 1.7 * sparse.eye_array(N))
    if kind == "complex-symmetric":
        return sparse.csr_array(a + 0.3j * sparse.eye_array(N))
    turned = sparse.diags_array(np.exp(0.1j * np.arange(N)))
    return sparse.csr_array(turned @ a @ turned.conj())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix_kind", ["nonsymmetric", "symmetric-indefinite", "complex-symmetric", "hermitian"])
def test_matrices_of_other_kinds_are_solved_as_in_process(embedded, kind, matrix_kind):
    matrix = shifted(matrix_kind)
    rng = np.random.default_rng(8)
    sides = [rng.standard_normal(N), rng.standard_normal(N) + 1j * rng.standard_normal(N)]
    sides.append(sides[1].astype(np.complex64))
    start = rng.standard_normal(N) * (1 if matrix.dtype.kind != "c" else 1 + 1j)
    again = sparse.csr_array(1.5 * matrix)

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        found = [await given(kept.solve(b, rtol=1e-9)) for b in sides]
        found.append(await given(kept.solve(sides[0], x0=start, rtol=1e-9)))
        found += await listed(kept.solve_steps([*sides[:2], MatrixStep(sides[0], again)], rtol=1e-9, warm_start=False))
        assert embedded.sessions.kept()[-1].system.kind == matrix_kind
        return found

    theirs = play(kind, embedded.target, scenario)
    prepared = prepare(matrix)
    ours = [prepared.solve(b, rtol=1e-9) for b in sides] + [prepared.solve(sides[0], x0=start, rtol=1e-9)]
    ours += [prepared.solve(b, rtol=1e-9) for b in sides[:2]] + [prepared.update(again).solve(sides[0], rtol=1e-9)]
    for one, other in zip(theirs, ours, strict=True):
        assert one.converged, one.message
        assert one.x.dtype == other.x.dtype
        np.testing.assert_array_equal(one.x, other.x)


def test_a_complex_solution_of_a_real_side_does_not_fit_where_a_real_one_would(embedded):
    """In the shared file, which has room for the right-hand side's own size: it is sent instead."""
    matrix = sparse.csr_array(grid_matrix(400) + 0.5j * sparse.eye_array(400**2))
    b = np.random.default_rng(0).standard_normal((2, 400**2))
    prepared = prepare(matrix, solver="gmres")
    ours = [prepared.solve(one, max_iterations=2).x for one in b]

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        assert kept._handover.file is not None
        found = [(await given(kept.solve(one, solver="gmres", max_iterations=2))).x for one in b]
        steps = await listed(kept.solve_steps(b, solver="gmres", max_iterations=2, warm_start=False))
        return found + [one.x for one in steps]

    for theirs, expected in zip(play("blocking", embedded.target, scenario), [*ours, *ours], strict=True):
        np.testing.assert_array_equal(theirs, expected)
