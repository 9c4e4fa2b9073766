"""`update` and `solve_steps` with a kept matrix: new values on a kept pattern, as in process, from both clients."""

import asyncio

import numpy as np
import pytest
from both import KINDS, given, listed, play
from scipy import sparse

from relaxon import client as errors
from relaxon.client import MatrixStep
from relaxon.solvers import Result, gallery, prepare
from relaxon.wire.conversions.matrix import ValuesChange

A = sparse.csr_array(gallery.matrix("triangles-2d", 700))
N = A.shape[0]
SIDES = np.random.default_rng(1).standard_normal((4, N))
LARGE = sparse.csr_array(gallery.matrix("laplacian-2d", 160_000))


def values(k):
    """The matrix of step `k`: `D A D`, another `D` each time."""
    scale = sparse.diags_array(1.0 + 0.2 * np.sin(np.arange(N) * (k + 1)))
    return sparse.csr_array(scale @ A @ scale)


def in_process(steps, warm=True, start=None, solver="amg", **options):
    """The same in process: each on the set-up of the one before, from its solution; the first sets up."""
    prepared, found = None, []
    for b, matrix in steps:
        if prepared is None:
            prepared = prepare(A if matrix is None else matrix, solver=solver)
        elif matrix is not None:
            prepared = prepared.update(matrix)
        found.append(prepared.solve(b, x0=start, **options))
        start = found[-1].x if warm else None
    return found


def same(theirs, ours):
    assert len(theirs) == len(ours)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.residuals, other.residuals)
        assert (one.result, one.iterations, one.message) == (other.result, other.iterations, other.message)


def stepped(kind, target, steps, matrix=A, connection=None, **options):
    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        found = await listed(kept.solve_steps(steps, **options))
        await given(kept.delete())
        return found

    return play(kind, target, scenario, **(connection or {}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("solver", "warm", "read_ahead"), [("amg", True, True), ("ic-cg", False, False)])
def test_steps_with_new_values_are_updates_in_process(embedded, kind, solver, warm, read_ahead):
    matrices = [None, values(1), None, values(2)]
    ours = in_process(zip(SIDES, matrices, strict=True), warm, solver=solver, rtol=1e-8)
    steps = [MatrixStep(b, matrix) for b, matrix in zip(SIDES, matrices, strict=True)]
    options = {"solver": solver, "rtol": 1e-8, "warm_start": warm, "read_ahead": read_ahead}
    theirs = stepped(kind, embedded.target, iter(steps), **options)
    same(theirs, ours)
    assert [one.setup_seconds > 0 for one in theirs] == [True, True, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_right_hand_sides_alone_of_every_type_and_a_start(embedded, kind):
    start = np.random.default_rng(2).standard_normal(N)
    for sides in (SIDES, SIDES.astype(np.float32), SIDES + 1j * SIDES[::-1]):
        ours = in_process(((b, None) for b in sides), start=start, solver="jacobi-cg", max_iterations=9)
        same(stepped(kind, embedded.target, sides, x0=start, solver="jacobi-cg", max_iterations=9), ours)
    assert stepped(kind, embedded.target, []) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared_memory", [True, False])
def test_large_steps_pass_both_ways_and_in_the_shared_file(embedded, kind, shared_memory):
    n = LARGE.shape[0]
    options = {"solver": "cg", "max_iterations": 2, "warm_start": False}
    prepared = prepare(LARGE, solver="cg")
    sides = np.random.default_rng(3).standard_normal((3, n))
    ours = [prepared.solve(b, max_iterations=2) for b in sides]

    async def scenario(client):
        kept = await given(client.linear.matrix(LARGE))
        assert (kept._handover.file is not None) == shared_memory

        def steps():
            for b in sides:
                array = kept.empty()
                array[:] = b
                yield array

        return await listed(kept.solve_steps(steps(), **options))

    same(play(kind, embedded.target, scenario, shared_memory=shared_memory), ours)


@pytest.mark.parametrize("kind", KINDS)
def test_newtons_method_solves_a_nonlinear_equation_step_by_step(embedded, kind):
    """`A u + u³ = f`: each step depends on the one before."""
    f = SIDES[0]
    state = {"u": np.zeros(N)}

    def jacobian(u):
        return sparse.csr_array(A + sparse.diags_array(3.0 * u**2))

    def residual(u):
        return f - A @ u - u**3

    def steps():
        for _ in range(20):
            if np.linalg.norm(residual(state["u"])) <= 1e-9 * np.linalg.norm(f):
                return
            yield MatrixStep(residual(state["u"]), jacobian(state["u"]))

    async def scenario(client):
        kept = await given(client.linear.matrix(A))
        found = kept.solve_steps(steps(), read_ahead=False, warm_start=False, solver="amg", rtol=1e-10)
        if hasattr(found, "__aiter__"):
            async for one in found:
                state["u"] = state["u"] + one.x
        else:
            for one in found:
                state["u"] = state["u"] + one.x

    play(kind, embedded.target, scenario)
    assert np.linalg.norm(residual(state["u"])) <= 1e-9 * np.linalg.norm(f)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_is_that_in_process_whatever_the_order_of_the_entries(embedded, kind, monkeypatch):
    sent = []
    message = ValuesChange.message
    monkeypatch.setattr(ValuesChange, "message", lambda self: sent.append(self.alone) or message(self))
    shuffled = values(1).tocoo()
    order = np.random.default_rng(0).permutation(shuffled.nnz)
    halves = np.concatenate([order, order])
    twice = sparse.coo_array((shuffled.data[halves] / 2, (shuffled.row[halves], shuffled.col[halves])), shape=A.shape)
    reversed_rows = values(1)  # its columns in another order than the kept one's
    for i in range(N):
        own = slice(reversed_rows.indptr[i], reversed_rows.indptr[i + 1])
        reversed_rows.indices[own] = reversed_rows.indices[own][::-1]
        reversed_rows.data[own] = reversed_rows.data[own][::-1]
    reversed_rows.has_sorted_indices = False
    b = SIDES[0]
    before = prepare(A, solver="amg")
    expected = [before.solve(b), before.update(values(1)).solve(b)]

    async def scenario(client):
        kept = await given(client.linear.matrix(A))
        found = [await given(kept.solve(b, solver="amg"))]
        for matrix in (values(1), values(1).tocsc(), twice, reversed_rows):
            await given(kept.update(A))
            await given(kept.update(matrix))
            found.append(await given(kept.solve(b, solver="amg")))
        return found

    first, *others = play(kind, embedded.target, scenario)
    np.testing.assert_array_equal(first.x, expected[0].x)
    for one in others:
        np.testing.assert_array_equal(one.x, expected[1].x)
    assert sent == [True, True, True, True, True, True, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_that_was_sent_out_of_order_with_zeros_is_updated_by_its_values_alone(embedded, kind):
    rows = np.r_[np.arange(40), np.arange(39), np.arange(1, 40), [0, 20]]
    columns = np.r_[np.arange(40), np.arange(1, 40), np.arange(39), [20, 0]]
    order = np.lexsort((-columns, rows))  # columns of a row from behind
    base = np.r_[np.full(40, 4.0), np.full(78, -1.0), np.zeros(2)]
    full = np.r_[np.full(40, 4.0), np.full(78, -1.0), np.full(2, -0.5)]
    indptr = np.searchsorted(rows[order], np.arange(41))

    def matrix(data):
        made = sparse.csr_array((data[order], columns[order], indptr), shape=(40, 40))
        made.has_sorted_indices = False
        return made

    b = np.arange(40.0)

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix(base)))
        change = kept._change(matrix(full))
        assert change.alone
        found = []
        for data in (base, 2 * base, full, 3 * full, base):
            await given(kept.update(matrix(data)))
            found.append((await given(kept.solve(b, rtol=1e-10))).x)
        assert kept.entries in (118, 120)
        return found

    found = play(kind, embedded.target, scenario)
    for x, data in zip(found, (base, 2 * base, full, 3 * full, base), strict=True):
        np.testing.assert_allclose(matrix(data) @ x, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_update_is_refused_by_name_and_changes_nothing(embedded, kind):
    more = sparse.lil_array(A)
    far = int(np.argmax(~np.isin(np.arange(N), A.indices[A.indptr[3] : A.indptr[4]])))
    more[3, far] = more[far, 3] = -1e-3
    bad = [
        (more.tocsr(), f"matrix must have the pattern of the matrix that was set up, {A.nnz} entries, got {A.nnz + 2}"),
        (A[:-1, :-1], "matrix must have the shape"),
        (sparse.csr_array(A * np.nan), "matrix must be finite"),
        (np.ones((N, N)), "matrix must be a SciPy sparse matrix"),
    ]

    async def scenario(client):
        kept = await given(client.linear.matrix(A))
        expected = (await given(kept.solve(SIDES[0], solver="amg"))).x
        for matrix, words in bad:
            with pytest.raises(errors.InvalidArgument) as caught:
                await given(kept.update(matrix))
            assert caught.value.field == "matrix"
            assert str(caught.value).startswith(words), caught.value
            with pytest.raises(errors.InvalidArgument) as caught:
                steps = [SIDES[0], MatrixStep(SIDES[1], matrix), SIDES[2]]
                await listed(kept.solve_steps(steps, solver="amg"))
            assert caught.value.field == "matrix", caught.value
            assert str(caught.value).startswith(words), caught.value
        for step, field in ((np.full(N, np.nan), "b[1]"), (np.ones(3), "b[1]"), ("text", "b[1]")):
            with pytest.raises(errors.InvalidArgument) as caught:
                await listed(kept.solve_steps([SIDES[0], step], solver="amg"))
            assert caught.value.field == field
        for options in ({"rtol": 0.0}, {"solver": 3}, {"x0": np.ones(3)}, {"timeout": -1.0}):
            with pytest.raises(errors.InvalidArgument) as caught:
                kept.solve_steps(SIDES, **options)  # at once
            assert caught.value.field == next(iter(options))
        with pytest.raises(errors.InvalidArgument, match="steps must be an iterable"):
            kept.solve_steps(3.0)
        np.testing.assert_array_equal((await given(kept.solve(SIDES[0], solver="amg"))).x, expected)
        await given(kept.delete())
        with pytest.raises(errors.NotFound):
            await given(kept.update(A))
        with pytest.raises(errors.NotFound):
            await listed(kept.solve_steps(SIDES))
        with pytest.raises(errors.NotFound):
            await given(kept.describe())

    play(kind, embedded.target, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_stops_its_own_step_alone_and_a_deadline_the_call(embedded, kind):
    state = {"step": -1}
    b = np.random.default_rng(5).standard_normal(LARGE.shape[0])

    def steps():
        for step in range(3):
            state["step"] = step
            yield b

    def callback(progress):
        return state["step"] == 1 and progress.iteration >= 1

    async def scenario(client):
        kept = await given(client.linear.matrix(LARGE))
        options = {"solver": "cg", "rtol": 1e-300, "warm_start": False, "read_ahead": False}
        found = await listed(kept.solve_steps(steps(), callback=callback, max_iterations=150, **options))
        assert [one.result for one in found] == [Result.MAX_ITERATIONS, Result.CANCELLED, Result.MAX_ITERATIONS]
        assert found[1].iterations < 150
        with pytest.raises(errors.DeadlineExceeded):
            await listed(kept.solve_steps([b], max_iterations=10**6, timeout=0.3, **options))
        assert (await given(kept.solve(b, solver="cg", max_iterations=2))).iterations == 2

    play(kind, embedded.target, scenario)


def test_an_async_iterable_is_pulled_from_as_well(embedded):
    async def steps():
        for k, b in enumerate(SIDES):
            await asyncio.sleep(0)
            yield MatrixStep(b, values(k))

    ours = in_process((b, values(k)) for k, b in enumerate(SIDES))
    same(stepped("asyncio", embedded.target, steps(), solver="amg"), ours)


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_shows_what_is_set_up_its_levels_and_updates(embedded, kind):
    ours = prepare(A, solver="amg").update(values(1)).summary()

    async def scenario(client):
        kept = await given(client.linear.matrix(A))
        assert str(await given(kept.describe())) == "nothing is set up"
        await given(kept.solve(SIDES[0], solver="amg"))
        await given(kept.update(values(1)))
        await given(kept.solve(SIDES[0], solver="ic-cg"))
        await given(kept.solve(SIDES[0], solver="amg"))
        return await given(kept.describe())

    found = play(kind, embedded.target, scenario)
    first, second = found.summaries
    assert (first.solver, first.levels) == ("ic-cg", ())
    assert (second.solver, second.levels, second.updates) == ("amg", ours.levels, 1)
    assert (second.unknowns, second.nonzeros) == (N, A.nnz)
    assert f"operator complexity {ours.operator_complexity:.2f}" in str(found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_the_unknowns_goes_with_the_matrix(embedded, kind):
    body = sparse.csr_array(gallery.matrix("elasticity-2d", 600))
    n = body.shape[0]
    rng = np.random.default_rng(6)
    points = rng.standard_normal((n // 2, 2))
    vectors = rng.standard_normal((n, 2))
    b = rng.standard_normal(n)
    said = [{"near_null": vectors}, {"near_null": vectors[:, 0]}, {"coordinates": points}, {"block_size": 2}]
    said += [{"near_null": vectors.astype(np.float32), "block_size": 2}, {"symmetric": True}, {"symmetric": None}]

    async def scenario(client):
        found = []
        for one in said:
            kept = await given(client.linear.matrix(body, **one))
            found.append(await given(kept.solve(b, solver="cg", max_iterations=5)))
            await given(kept.update(2.0 * body))
            system = embedded.sessions.kept()[-1].system
            ours = prepare(body, solver="cg", **one).system
            assert (system.near_null is None) == (ours.near_null is None)
            if ours.near_null is not None:
                np.testing.assert_array_equal(system.near_null.vectors, ours.near_null.vectors)
                assert system.near_null.block_size == ours.near_null.block_size
            assert system.symmetric == ours.symmetric
            found.append(await given(kept.solve(b, solver="cg", max_iterations=5)))
        bad = [
            ({"near_null": np.ones((n, 40))}, "near_null must"),
            ({"near_null": np.ones((n + 1, 2))}, "near_null must"),
            ({"near_null": np.zeros((n, 2))}, "near_null must"),
            ({"coordinates": points[:-1]}, "coordinates must"),
            ({"coordinates": points, "near_null": vectors}, "near_null must"),
            ({"block_size": 7}, "block_size must divide" if n % 7 else "block_size"),
            ({"block_size": 100}, "block_size must be"),
            ({"block_size": 2.5}, "block_size must be"),
            ({"symmetric": "yes"}, "symmetric must be a bool"),
            ({"M": lambda r: r}, "M must be None here, got function: a preconditioner is code"),
        ]
        for options, words in bad:
            with pytest.raises(errors.InvalidArgument) as caught:
                await given(client.linear.matrix(body, **options))
            assert str(caught.value).startswith(words), caught.value
            assert caught.value.field == words.split()[0]
        return found

    found = iter(play(kind, embedded.target, scenario))
    for one in said:
        prepared = prepare(body, solver="cg", **one)
        for ours in (prepared.solve(b, max_iterations=5), prepared.update(2.0 * body).solve(b, max_iterations=5)):
            np.testing.assert_array_equal(next(found).x, ours.x)
