"""What travels: all types of numbers, both ways of handing arrays over, compressed or not, from both clients."""

import socket
import threading

import numpy as np
import pytest
from both import KINDS, given, play

import relaxon
from relaxon import client as errors
from relaxon.solvers import PoissonGrid, solve

CELLS = np.zeros((400, 350), np.uint8)
CELLS[100:200, 50:60] = 1
SMALL = np.zeros((12, 10), np.uint8)
SMALL[3:5, 3:5] = 1
RNG = np.random.default_rng(7)
OPTIONS = {"solver": "jacobi-cg", "max_iterations": 12}


def side(shape, dtype):
    values = RNG.standard_normal(shape)
    return (values + 1j * RNG.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_every_type_of_number_gives_the_bits_of_the_solve_in_process(embedded, kind, shared_memory, dtype):
    local = PoissonGrid(CELLS, boundary="dirichlet")
    b, x0 = side(CELLS.shape, dtype), side(CELLS.shape, dtype)
    copies = b.copy(), x0.copy()
    packed = local.pack(b.real) + (1j * local.pack(b.imag) if b.dtype.kind == "c" else 0)
    ours, ours_packed = solve(local, b, x0=x0, **OPTIONS), solve(local, packed, **OPTIONS)

    async def scenario(client):
        async with _grid(client, CELLS, boundary="dirichlet") as grid:
            assert (grid._handover.file is not None) == shared_memory
            return await given(grid.solve(b, x0=x0, **OPTIONS)), await given(grid.solve(packed, **OPTIONS))

    theirs, theirs_packed = play(kind, embedded.target, scenario, shared_memory=shared_memory)
    assert theirs.x.dtype == (np.complex128 if b.dtype.kind == "c" else np.float64)
    for mine, other in ((ours, theirs), (ours_packed, theirs_packed)):
        np.testing.assert_array_equal(other.x, mine.x)
        np.testing.assert_array_equal(other.residuals, mine.residuals)
        assert other.true_residual == mine.true_residual
    np.testing.assert_array_equal((b, x0), copies)


class _grid:
    """A grid of either client for an `async with` block."""

    def __init__(self, client, *arguments, **options):
        self._made = client.poisson.grid(*arguments, **options)

    async def __aenter__(self):
        self._grid = await given(self._made)
        return self._grid

    async def __aexit__(self, *_):
        await given(self._grid.delete())


@pytest.mark.parametrize("kind", KINDS)
def test_awkward_arrays_travel_as_their_values_are(embedded, kind):
    """Other strides, byte orders and integers; 0-d, empty, and what is not finite are refused by name."""
    local = PoissonGrid(SMALL, boundary="dirichlet")
    b = RNG.integers(-5, 5, SMALL.shape)
    forms = [b.astype(float).T.copy().T, b.astype(">f8"), b[::-1].copy()[::-1], np.asfortranarray(b), b.tolist()]
    expected = solve(local, b.astype(float), **OPTIONS).x
    cold = solve(local, b * (1 + 2j), **OPTIONS).x

    async def scenario(client):
        async with _grid(client, SMALL, boundary="dirichlet") as grid:
            for form in forms:
                np.testing.assert_array_equal((await given(grid.solve(form, **OPTIONS))).x, expected)
            swapped = (b * (1 + 2j)).astype(">c16")
            np.testing.assert_array_equal((await given(grid.solve(swapped, **OPTIONS))).x, cold)
            for bad in (3.0, [], np.full(SMALL.shape, np.nan), np.full(SMALL.shape, 1j * np.inf), b.astype(str), None):
                with pytest.raises(errors.InvalidArgument) as caught:
                    await given(grid.solve(bad, **OPTIONS))
                assert caught.value.field == "b"
            with pytest.raises(errors.InvalidArgument, match="x0 must be an array of float32") as caught:
                await given(grid.solve(b, x0=b * 1j, **OPTIONS))
            assert caught.value.field == "x0"

    play(kind, embedded.target, scenario)


class Counting:
    """A way to the server that counts the bytes that go along it."""

    def __init__(self, target):
        host, _, port = target.rpartition(":")
        self._server = (host, int(port))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            other = socket.create_connection(self._server)
            for ends in ((one, other), (other, one)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source, sink):
        while True:
            try:
                octets = source.recv(1 << 16)
                if not octets:
                    sink.shutdown(socket.SHUT_WR)
                    return
                self.count += len(octets)
                sink.sendall(octets)
            except OSError:
                return

    def close(self):
        self._socket.close()


@pytest.fixture
def counting(embedded):
    way = Counting(embedded.target)
    yield way
    way.close()


@pytest.mark.parametrize("kind", KINDS)
def test_compression_changes_no_bit_and_sends_fewer(embedded, counting, kind):
    b = np.zeros(CELLS.shape)
    b[50, 60] = 1.0
    expected = solve(PoissonGrid(CELLS, boundary="dirichlet"), b, **OPTIONS).x
    taken = {}

    async def scenario(client):
        async with _grid(client, CELLS, boundary="dirichlet") as grid:
            before = counting.count
            solution = await given(grid.solve(b, **OPTIONS))
            return solution.x, counting.count - before

    for compression in (None, "gzip", "deflate"):
        x, taken[compression] = play(kind, counting.target, scenario, shared_memory=False, compression=compression)
        np.testing.assert_array_equal(x, expected)
    assert taken[None] > 2 * b.nbytes
    assert max(taken["gzip"], taken["deflate"]) < b.nbytes / 10


def test_an_unknown_compression_is_refused_by_name(embedded):
    for connect in (relaxon.connect, relaxon.aio.connect):
        with pytest.raises(errors.InvalidArgument, match="compression must be None, 'gzip' or 'deflate', got 'zip'"):
            connect(embedded.target, compression="zip")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changed", ["cells", "kappa", "both", "unit"])
@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "ic-cg", "pyamg-rs"])
def test_a_solve_after_an_update_is_that_on_a_fresh_grid(embedded, kind, solver, changed):
    rng = np.random.default_rng(3)
    cells, other = (np.zeros((24, 20), np.uint8) for _ in range(2))
    cells[4:9, 3:8], other[10:14, 2:17] = 1, 1
    other[:, -1] = 2
    kappa = rng.uniform(0.5, 2.0, cells.shape)
    faces = [rng.uniform(0.5, 2.0, tuple(n + (a == axis) for a, n in enumerate(cells.shape))) for axis in range(2)]
    before = {"cells": None, "kappa": None, "both": kappa, "unit": faces}[changed]
    arguments = {
        "cells": {"cells": other},
        "kappa": {"coefficient": kappa},
        "both": {"cells": other, "coefficient": faces},
        "unit": {"coefficient": None},
    }[changed]
    after = arguments.get("coefficient", before)
    fresh = PoissonGrid(arguments.get("cells", cells), 0.1, "dirichlet", tuple(after) if after is faces else after)
    b = rng.standard_normal(cells.shape)
    ours = solve(fresh, b, solver=solver)
    ours_packed = solve(fresh, fresh.pack(b), solver=solver)

    async def scenario(client):
        async with _grid(client, cells, 0.1, "dirichlet", before) as grid:
            await given(grid.solve(rng.standard_normal(cells.shape), solver=solver))
            await given(grid.update(**arguments))
            assert grid.unknowns == fresh.unknowns
            return await given(grid.solve(b, solver=solver)), await given(grid.solve(fresh.pack(b), solver=solver))

    theirs, packed = play(kind, embedded.target, scenario)
    assert theirs.converged
    np.testing.assert_array_equal(theirs.x, ours.x)
    np.testing.assert_array_equal(packed.x, ours_packed.x)
    assert theirs.setup_seconds > 0


@pytest.mark.parametrize("kind", KINDS)
def test_updates_that_cannot_be_are_refused_and_change_nothing(embedded, kind):
    b = RNG.standard_normal(SMALL.shape)
    expected = solve(PoissonGrid(SMALL, boundary="dirichlet"), b, **OPTIONS).x
    bad = {
        "cells": [{"cells": np.zeros((3, 3), int)}, {"cells": SMALL + 7}, {"cells": SMALL * 0.5}, {"cells": []}],
        "coefficient": [
            {"coefficient": np.ones((3, 3))},
            {"coefficient": -np.ones(SMALL.shape)},
            {"coefficient": np.full(SMALL.shape, np.nan)},
            {"coefficient": "same"},
            {"coefficient": [np.ones(SMALL.shape)]},
        ],
    }

    async def scenario(client):
        async with _grid(client, SMALL, boundary="dirichlet") as grid:
            for field, changes in bad.items():
                for change in changes:
                    with pytest.raises(errors.InvalidArgument) as caught:
                        await given(grid.update(**change))
                    assert caught.value.field.startswith(field), change
            await given(grid.update())  # nothing to change
            return (await given(grid.solve(b, **OPTIONS))).x

    np.testing.assert_array_equal(play(kind, embedded.target, scenario), expected)
