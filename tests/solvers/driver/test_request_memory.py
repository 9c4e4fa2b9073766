"""A request's memory serves the next one, and no caller's array with it."""

import threading

import numpy as np
import pytest

from relaxon.solvers import CellType, PoissonGrid, prepare

RNG = np.random.default_rng(8)
CELLS = np.where(RNG.random((12, 11, 10)) < 0.2, CellType.SOLID, CellType.FLUID).astype(np.uint8)
GRID = PoissonGrid(CELLS, boundary="dirichlet")
SIDES = RNG.standard_normal((6, *CELLS.shape))
OPTIONS = {"rtol": 1e-8}


def grid_front():
    return prepare(GRID, solver="mg-cg"), SIDES


def packed_front():
    return prepare(GRID, solver="mg-cg"), [GRID.pack(b) for b in SIDES]


def matrix_front():
    return prepare(GRID.operator().to_csr(), solver="cg"), [GRID.pack(b) for b in SIDES]


FRONTS = {"grid": grid_front, "packed": packed_front, "matrix": matrix_front}


def fresh(front, b, **options):
    return FRONTS[front]()[0].solve(b, **OPTIONS, **options)


@pytest.mark.parametrize("front", FRONTS)
def test_solves_in_used_memory_have_the_bits_of_those_in_new(front):
    prepared, sides = FRONTS[front]()
    starts = [None, sides[1], None, sides[0], np.zeros_like(sides[0]), None]
    found = [prepared.solve(b, x0=x0, **OPTIONS) for b, x0 in zip(sides, starts, strict=True)]
    copies = [one.x.copy() for one in found]
    for b, x0, one, copy in zip(sides, starts, found, copies, strict=True):
        other = fresh(front, b, x0=x0)
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.residuals, other.residuals)
        np.testing.assert_array_equal(one.x, copy)  # no later solve has written there


@pytest.mark.parametrize("front", FRONTS)
def test_a_start_is_zero_whatever_was_there(front):
    prepared, sides = FRONTS[front]()
    for b in sides[:3]:
        request = prepared.request(b, 1e-8, 0.0, None, None, "error")
        assert not request.x.any()
        solution = prepared.answer(request)
        np.testing.assert_array_equal(solution.x, fresh(front, b).x)
        request.b.fill(np.nan)
        request.x.fill(np.nan)
        prepared.reclaim(request, x=True)


@pytest.mark.parametrize("front", FRONTS)
def test_the_memory_is_used_again_and_by_one_alone(front):
    prepared, sides = FRONTS[front]()
    first = prepared.request(sides[0], 1e-8, 0.0, None, None, "error")
    prepared.reclaim(first, x=True)
    second, third = (prepared.request(b, 1e-8, 0.0, None, None, "error") for b in sides[1:3])
    if front != "packed":
        assert np.shares_memory(second.b, first.b)
    assert np.shares_memory(second.x, first.x)
    for one, other in ((second.b, third.b), (second.x, third.x), (second.b, second.x), (third.b, third.x)):
        assert not np.shares_memory(one, other)


@pytest.mark.parametrize("front", FRONTS)
def test_a_refused_side_leaves_nothing_behind(front):
    prepared, sides = FRONTS[front]()
    prepared.solve(sides[0], **OPTIONS)
    bad = sides[1].copy()
    bad.reshape(-1)[5] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="b must be finite|b must have only finite|finite"):
            prepared.solve(bad, **OPTIONS)
        np.testing.assert_array_equal(prepared.solve(sides[2], **OPTIONS).x, fresh(front, sides[2]).x)


def test_a_caller_s_arrays_are_never_kept():
    prepared, sides = grid_front()
    b, x0 = sides[0].copy(), sides[1].copy()
    one = prepared.solve(b, x0=x0, **OPTIONS)
    two = prepared.solve(sides[2], **OPTIONS)
    np.testing.assert_array_equal(b, sides[0])
    np.testing.assert_array_equal(x0, sides[1])
    assert not np.shares_memory(one.x, two.x)
    one.x.fill(np.nan)
    np.testing.assert_array_equal(prepared.solve(sides[0], **OPTIONS).x, fresh("grid", sides[0]).x)


def test_an_update_takes_it_over():
    prepared, sides = grid_front()
    prepared.solve(sides[0], **OPTIONS)
    other = PoissonGrid(np.roll(CELLS, 3, axis=0), boundary="dirichlet")
    moved = prepared.update(other)
    np.testing.assert_array_equal(
        moved.solve(sides[1], **OPTIONS).x, prepare(other, solver="mg-cg").solve(sides[1], **OPTIONS).x
    )


def test_complex_sides_in_between_change_nothing():
    prepared, sides = grid_front()
    prepared.solve(sides[0], **OPTIONS)
    both = prepared.solve(sides[1] + 1j * sides[2], **OPTIONS)
    np.testing.assert_array_equal(both.x, fresh("grid", sides[1] + 1j * sides[2]).x)
    np.testing.assert_array_equal(prepared.solve(sides[3], **OPTIONS).x, fresh("grid", sides[3]).x)


def test_threads_that_make_requests_at_once_share_none():
    prepared, sides = grid_front()
    wrong = []

    def work(number):
        for _ in range(200):
            request = prepared.request(sides[number], 1e-8, 0.0, None, None, "error")
            expected = np.where(CELLS == CellType.FLUID, sides[number], 0.0).reshape(request.b.shape)
            request.x.fill(number)
            if not np.array_equal(request.b, expected) or not (request.x == number).all():
                wrong.append(number)
            prepared.reclaim(request, x=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []
