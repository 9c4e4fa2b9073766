"""Right-hand sides that the caller writes into shared memory: nothing is copied, nothing in use is written to."""

import gc
import threading

import numpy as np
import pytest
from both import KINDS, given, listed, play
from client_steps import LARGE, in_process, in_the_file, same
from laplacians import grid_matrix
from shared_mappings import mappings, settled

import relaxon
from relaxon import client as errors
from relaxon.solvers import PoissonGrid, solve
from relaxon.solvers.grid.poisson_grid import CellType
from relaxon.wire.handover import MOST, SPARED, USUAL, Places, Sheet
from relaxon.wire.shared_memory import SharedFile

OPTIONS = {"solver": "jacobi-cg", "max_iterations": 3}
CELLS = np.where(np.indices(LARGE.shape)[0] < 350, CellType.FLUID, CellType.SOLID).astype(np.uint8)
LOCAL = PoissonGrid(CELLS, boundary="dirichlet")
SIDES = np.random.default_rng(5).standard_normal((7, *LARGE.shape))


@pytest.fixture
def copied(monkeypatch):
    """How many arrays were copied into shared files."""
    calls = []
    write = SharedFile.write

    def counting(self, offset, array):
        calls.append(offset)
        write(self, offset, array)

    monkeypatch.setattr(SharedFile, "write", counting)
    return calls


def with_grid(kind, embedded, work, **connection):
    async def scenario(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        try:
            return await work(grid)
        finally:
            await given(grid.delete())

    return play(kind, embedded.target, scenario, **connection)


def written(grid, sides, seen=lambda b: None, **options):
    """Each side in an array of the grid's."""
    for side in sides:
        b = grid.empty(**options)
        b[...] = side
        seen(b)
        yield b


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read_ahead", [True, False])
def test_steps_that_are_written_there_are_not_copied(embedded, kind, read_ahead, copied):
    ours = in_process(lambda _: LOCAL, SIDES, **OPTIONS)
    sheets, found = [], []

    async def work(grid):
        steps = grid.solve_steps(
            written(grid, SIDES, lambda b: sheets.append(in_the_file(b))), read_ahead=read_ahead, **OPTIONS
        )
        number = 0

        def look(one):
            found.append(in_the_file(one.x))
            np.testing.assert_array_equal(one.x, ours[number].x)
            np.testing.assert_array_equal(one.residuals, ours[number].residuals)

        if kind == "asyncio":
            async for one in steps:
                look(one)
                number += 1
        else:
            for one in steps:
                look(one)
                number += 1

    with_grid(kind, embedded, work)
    assert sheets == [True] * len(SIDES)
    assert found == [True] * len(SIDES)
    assert copied == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared_memory", [True, False])
def test_what_was_handed_over_stays_what_it_is(embedded, kind, shared_memory):
    """Whoever keeps all right-hand sides and all solutions has all of them, wherever they are."""
    ours = in_process(lambda _: LOCAL, SIDES, **OPTIONS)
    kept = []

    async def work(grid):
        return await listed(grid.solve_steps(written(grid, SIDES, kept.append), **OPTIONS))

    found = with_grid(kind, embedded, work, shared_memory=shared_memory)
    same(found, ours)
    for b, side in zip(kept, SIDES, strict=True):
        np.testing.assert_array_equal(b, side)
    held = sum(in_the_file(array) for array in [*kept, *(one.x for one in found)])
    assert 1 <= held <= MOST - SPARED if shared_memory else held == 0


FORMS = {
    "float64": ({}, SIDES[0]),
    "float32": ({"dtype": np.float32}, SIDES[0].astype(np.float32)),
    "complex128": ({"dtype": "complex128"}, SIDES[0] + 2j * SIDES[1]),
    "complex64": ({"dtype": np.complex64}, (SIDES[0] - 1j * SIDES[1]).astype(np.complex64)),
    "packed": ({"packed": True}, LOCAL.pack(SIDES[0])),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_type_and_form_is_solved_where_it_is(embedded, kind, form, copied):
    options, side = FORMS[form]
    ours = solve(LOCAL, side, **OPTIONS)

    async def work(grid):
        b = grid.empty(**options)
        assert in_the_file(b)
        assert (b.dtype, b.shape, b.flags.c_contiguous, b.flags.writeable) == (side.dtype, side.shape, True, True)
        b[...] = side
        (stepped,) = await listed(grid.solve_steps([b], **OPTIONS))
        one = await given(grid.solve(b, **OPTIONS))
        np.testing.assert_array_equal(b, side)
        np.testing.assert_array_equal(stepped.x, ours.x)
        np.testing.assert_array_equal(one.x, ours.x)

    with_grid(kind, embedded, work)
    assert copied == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_solution_is_a_start_and_a_side_where_it_is(embedded, kind, copied):
    first = solve(LOCAL, SIDES[0], **OPTIONS)
    second = solve(LOCAL, first.x, x0=first.x, **OPTIONS)

    async def work(grid):
        b = grid.empty()
        b[...] = SIDES[0]
        one = await given(grid.solve(b, **OPTIONS))
        assert in_the_file(one.x)
        two = await given(grid.solve(one.x, x0=one.x, **OPTIONS))
        np.testing.assert_array_equal(one.x, first.x)
        np.testing.assert_array_equal(two.x, second.x)

    with_grid(kind, embedded, work)
    assert copied == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_solution_that_is_a_step_may_change_at_once(embedded, kind, copied):
    """Unlike an array of `empty` it is the caller's own: it is copied."""
    # No step ends worse than it started: a server that shares memory does not hold a step's start (docs/poisson.md).
    options = OPTIONS | {"max_iterations": 2}
    first = solve(LOCAL, SIDES[0], **options)
    ours = in_process(lambda _: LOCAL, [first.x, 2 * first.x, 4 * first.x], **options)

    async def work(grid):
        x = (await given(grid.solve(SIDES[0], **options))).x
        assert in_the_file(x)

        def doubling():
            for _ in ours:
                yield x
                x[...] *= 2

        same(await listed(grid.solve_steps(doubling(), **options)), ours)

    with_grid(kind, embedded, work)
    assert len(copied) == 4


PARTS = {
    "all of it": (lambda b: b[:], 0),
    "reshaped twice": (lambda b: b.reshape(-1)[:].reshape(b.shape), 0),
    "backwards": (lambda b: b[::-1], 1),
    "another type": (lambda b: b.astype(np.float32), 1),
    "big-endian": (lambda b: b.astype(">f8"), 1),
    "a sum": (lambda b: b + 0.0, 1),
    "a list": (lambda b: b.tolist(), 1),
}


@pytest.mark.parametrize("part", PARTS)
def test_only_what_lies_there_in_one_piece_is_not_copied(client, part, copied):
    taken, copies = PARTS[part]
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        b = grid.empty()
        b[...] = SIDES[0]
        (one,) = grid.solve_steps([taken(b)], **OPTIONS)
        np.testing.assert_array_equal(one.x, solve(LOCAL, taken(b), **OPTIONS).x)
    assert len(copied) == copies


def test_a_packed_side_may_be_a_part_of_one_that_is_not(client, copied):
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        b = grid.empty()
        b[...] = 7.0
        inner = b.reshape(-1)[1000 : 1000 + grid.unknowns]
        inner[...] = LOCAL.pack(SIDES[0])
        (one,) = grid.solve_steps([inner], **OPTIONS)
        np.testing.assert_array_equal(one.x, solve(LOCAL, LOCAL.pack(SIDES[0]), **OPTIONS).x)
        assert (b.reshape(-1)[:1000] == 7.0).all()
    assert copied == []


@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_a_step_is_read_from_is_refused_for_the_next(embedded, kind):
    """The server may be reading it while it is written to: that has to be seen, not solved."""

    async def work(grid):
        b = grid.empty()
        found = []

        def same_array():
            for side in SIDES[:3]:
                b[...] = side
                yield b.reshape(b.shape)

        async def collect(**options):
            steps = grid.solve_steps(same_array(), **OPTIONS, **options)
            if kind == "asyncio":
                async for one in steps:
                    found.append(one.iterations)
            else:
                found.extend(one.iterations for one in steps)

        with pytest.raises(errors.InvalidArgument, match="memory of a step that is not answered") as caught:
            await collect()
        assert caught.value.field == "b[1]"
        assert len(found) == 1
        found.clear()
        await collect(read_ahead=False)
        assert len(found) == 3
        steps = await listed(grid.solve_steps(same_array(), read_ahead=False, **OPTIONS))
        same(steps, in_process(lambda _: LOCAL, SIDES[:3], **OPTIONS))

    with_grid(kind, embedded, work)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_it_is_refused_and_it_is_of_use_again(embedded, kind, copied):
    async def work(grid):
        b = grid.empty()
        b[...] = SIDES[0]
        b[3, 4] = np.nan
        with pytest.raises(errors.InvalidArgument) as caught:
            await given(grid.solve(b, **OPTIONS))
        assert caught.value.field == "b"
        with pytest.raises(errors.InvalidArgument) as caught:
            await listed(grid.solve_steps([b], **OPTIONS))
        assert caught.value.field == "b[0]"
        b[...] = SIDES[0]
        return (await given(grid.solve(b, **OPTIONS))).x

    np.testing.assert_array_equal(with_grid(kind, embedded, work), solve(LOCAL, SIDES[0], **OPTIONS).x)
    # The refused sequence took the file with it; what is then sent is not copied there.
    assert copied == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["int64", bool, np.float16, np.longdouble, "U3", object, "nonsense"])
def test_other_types_are_refused(embedded, kind, dtype):
    async def work(grid):
        with pytest.raises(errors.InvalidArgument) as caught:
            grid.empty(dtype)
        assert caught.value.field == "dtype"
        assert "float64" in str(caught.value)

    with_grid(kind, embedded, work)


def test_it_is_ordinary_memory_where_none_is_shared(embedded, client):
    with (
        relaxon.connect(embedded.target, shared_memory=False) as other,
        other.poisson.grid(CELLS, boundary="dirichlet") as grid,
    ):
        b = grid.empty()
        assert b.base is None
        b[...] = SIDES[0]
        np.testing.assert_array_equal(grid.solve(b, **OPTIONS).x, solve(LOCAL, SIDES[0], **OPTIONS).x)
    with client.poisson.grid(np.zeros((8, 9), np.uint8), boundary="dirichlet") as grid:
        assert (grid.empty().base, grid.empty().shape, grid.empty(packed=True).shape) == (None, (8, 9), (72,))
    grid = client.poisson.grid(CELLS, boundary="dirichlet")
    before = grid.empty()
    before[...] = 3.0
    grid.delete()
    assert grid.empty().base is None
    assert (before == 3.0).all()


def test_that_of_another_grid_is_copied(client, copied):
    with (
        client.poisson.grid(CELLS, boundary="dirichlet") as grid,
        client.poisson.grid(CELLS, boundary="dirichlet") as other,
    ):
        b = other.empty()
        b[...] = SIDES[0]
        (one,) = grid.solve_steps([b], **OPTIONS)
        np.testing.assert_array_equal(one.x, solve(LOCAL, SIDES[0], **OPTIONS).x)
    assert len(copied) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_a_matrix(embedded, kind, copied):
    matrix = grid_matrix(400)
    side = np.random.default_rng(0).standard_normal(400**2)
    ours = solve(matrix, side, solver="cg", max_iterations=3)

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        b = kept.empty()
        assert in_the_file(b)
        b[...] = side
        x = (await given(kept.solve(b, solver="cg", max_iterations=3))).x
        await given(kept.delete())
        return x

    np.testing.assert_array_equal(play(kind, embedded.target, scenario), ours.x)
    assert copied == []


def test_the_memory_goes_with_the_last_array(client):
    settled(mappings)
    before = mappings()
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        row = grid.empty()[3]
        row[...] = 1.0
    del grid
    assert mappings() > before
    assert (row == 1.0).all()
    del row
    assert settled(mappings, before)


def test_those_who_hold_many_get_the_others_elsewhere(client):
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        held = [grid.empty() for _ in range(8)]
        for number, b in enumerate(held):
            b[...] = SIDES[number % 7]
        assert sum(in_the_file(b) for b in held) == MOST - SPARED
        for number, b in enumerate(held):
            one = grid.solve(b, **OPTIONS)
            np.testing.assert_array_equal(one.x, solve(LOCAL, SIDES[number % 7], **OPTIONS).x)
        del held, b
        gc.collect()
        assert in_the_file(grid.empty())


def test_where_there_is_no_memory_for_more_places_it_is_elsewhere(client, monkeypatch):
    def none(self, offset, size):
        raise OSError("no memory")

    monkeypatch.setattr(SharedFile, "reserve", none)
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        b = grid.empty()
        assert not in_the_file(b)
        b[...] = SIDES[0]
        np.testing.assert_array_equal(grid.solve(b, **OPTIONS).x, solve(LOCAL, SIDES[0], **OPTIONS).x)


def test_threads_never_get_the_same_memory():
    """Some ask and drop while one takes for calls; each array is seen to hold what its owner wrote."""
    places = Places(SharedFile.create(MOST * 800)[0])
    places.grow(USUAL)
    places.grow(MOST)
    wrong, lent, ended = [], [0], threading.Event()

    def holder(number):
        mine = float(number)
        while not ended.is_set():
            array = places.empty(np.dtype(float), (100,))
            if array is None:
                continue
            lent[0] += isinstance(array.base, Sheet)
            array[...] = mine
            for _ in range(5):
                if not (array == mine).all():
                    wrong.append(number)
            del array

    threads = [threading.Thread(target=holder, args=(number,)) for number in range(1, 7)]
    for one in threads:
        one.start()
    for turn in range(3000):
        taken = [place for place in (places.take(800), places.take(1600)) if place is not None]
        for place in taken:
            place.write(np.full(100 * len(place.numbers), -1.0 - turn))
        for place in taken:
            held = place.file.view(place.offset, np.dtype(float), (100 * len(place.numbers),))
            if not (held == -1.0 - turn).all():
                wrong.append(-turn)
        places.end_call()
    ended.set()
    for one in threads:
        one.join()
    assert wrong == []
    assert lent[0] > 100
    assert len({place.offset for place in iter(lambda: places.take(800), None)}) == MOST
