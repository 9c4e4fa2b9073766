"""Solutions that the caller holds, in the file that it shares with the server: none is written over, none is lost."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from both import KINDS, given, play
from client_steps import LARGE, in_process, in_the_file
from shared_mappings import mappings, settled

from relaxon import client as errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto.tensor_pb2 import SharedArray
from relaxon.server.solving import solve_messages
from relaxon.solvers import PoissonGrid
from relaxon.wire import tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.solve import SolutionReader
from relaxon.wire.handover import LEAST, MOST, SPARED, USUAL, Handover, Places
from relaxon.wire.shared_memory import SharedFile

OPTIONS = {"solver": "jacobi-cg", "max_iterations": 3}
LOCAL = PoissonGrid(LARGE, boundary="dirichlet")
SIDES = np.random.default_rng(4).standard_normal((9, *LARGE.shape))
KEEPING = {
    "the last one": lambda held: held[-1:],
    "the last two": lambda held: held[-2:],
    "the last three": lambda held: held[-3:],
    "all": lambda held: held,
    "every other": lambda held: held[:-1] if len(held) % 2 else held,
    "some": lambda held: random.Random(len(held)).sample(held, len(held) // 2),
}


async def looped(grid, sides, seen, **options):
    """`seen` has each solution as it comes; nothing else holds it."""
    found = grid.solve_steps(sides, **OPTIONS, **options)
    if hasattr(found, "__aiter__"):
        async for one in found:
            seen(one)
            del one
    else:
        for one in found:
            seen(one)
            del one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keeping", KEEPING)
def test_what_the_caller_holds_stays_what_it_is(embedded, kind, keeping):
    ours = in_process(lambda _: LOCAL, SIDES, **OPTIONS)
    held, copied = [], []

    def seen(one):
        number = len(copied)
        copied.append(not in_the_file(one.x))
        held.append((number, one))
        held[:] = KEEPING[keeping](held)
        for earlier, solution in held:
            np.testing.assert_array_equal(solution.x, ours[earlier].x)

    async def scenario(client):
        await with_grid(client, looped, SIDES, seen)

    play(kind, embedded.target, scenario)
    assert len(copied) == len(SIDES)
    if keeping == "the last one":
        assert sum(copied) == 0
    if keeping == "all":
        assert copied == [False] * (USUAL - SPARED) + [True] * (len(SIDES) - USUAL + SPARED)
    assert sum(in_the_file(one.x) for _, one in held) <= USUAL - SPARED


async def with_grid(client, work, *arguments):
    grid = await given(client.poisson.grid(LARGE, boundary="dirichlet"))
    assert grid._handover.file is not None
    await work(grid, *arguments)
    await given(grid.delete())


@pytest.mark.parametrize("kind", KINDS)
def test_a_solution_is_the_caller_s_own_to_write_to(embedded, kind):
    """The server starts the next step from its own."""
    ours = in_process(lambda _: LOCAL, SIDES, **OPTIONS)
    found = []

    def seen(one):
        assert in_the_file(one.x)
        found.append(one.x.copy())
        one.x[...] = np.nan

    async def scenario(client):
        await with_grid(client, looped, SIDES, seen)

    play(kind, embedded.target, scenario)
    for one, other in zip(found, ours, strict=True):
        np.testing.assert_array_equal(one, other.x)


def test_other_calls_go_round_what_the_caller_holds(client):
    ours = in_process(lambda _: LOCAL, SIDES[:3], **OPTIONS)
    with client.poisson.grid(LARGE, boundary="dirichlet") as grid:
        held = list(grid.solve_steps(SIDES[:3], **OPTIONS))
        assert [in_the_file(one.x) for one in held] == [True, True, False]
        for b in SIDES[3:]:
            one = grid.solve(b, x0=held[0].x, **OPTIONS)
            np.testing.assert_array_equal(one.x, in_process(lambda _: LOCAL, [b], start=ours[0].x, **OPTIONS)[0].x)
        for theirs, mine in zip(held, ours, strict=True):
            np.testing.assert_array_equal(theirs.x, mine.x)
        file = grid._handover.file
    # The grid is gone from the server, the solutions are not.
    for theirs, mine in zip(held, ours, strict=True):
        np.testing.assert_array_equal(theirs.x, mine.x)
    assert file is not None


def test_the_memory_goes_with_the_last_array_on_it(client):
    settled(mappings)
    before = mappings()
    with client.poisson.grid(LARGE, boundary="dirichlet") as grid:
        (one,) = grid.solve_steps(SIDES[:1], **OPTIONS)
    del grid
    row = one.x[3]
    del one
    assert mappings() > before
    assert np.isfinite(row).all()
    del row
    assert settled(mappings, before)


@pytest.mark.parametrize("kind", KINDS)
def test_where_there_is_no_memory_for_more_places_there_are_two(embedded, kind, monkeypatch):
    def none(self, offset, size):
        raise OSError("no memory")

    monkeypatch.setattr(SharedFile, "reserve", none)
    ours = in_process(lambda _: LOCAL, SIDES, **OPTIONS)
    found = []

    def seen(one):
        found.append(one)
        assert not in_the_file(one.x)

    async def scenario(client):
        await with_grid(client, looped, SIDES, seen)

    play(kind, embedded.target, scenario)
    for one, other in zip(found, ours, strict=True):
        np.testing.assert_array_equal(one.x, other.x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("flaw", ["NaN", "a net source"])
def test_the_steps_before_a_bad_one_are_answered_first(embedded, kind, shared_memory, flaw):
    """However long their answers take to be sent, where the bad one is found to be so at once."""
    good = SIDES[0] - SIDES[0].mean()
    bad = np.full(LARGE.shape, np.nan) if flaw == "NaN" else np.ones(LARGE.shape)
    found = []

    async def scenario(client):
        grid = await given(client.poisson.grid(LARGE))
        with pytest.raises(errors.InvalidArgument) as caught:
            await looped(grid, [good, good, good, bad, good], found.append)
        assert caught.value.field == "b[3]"
        assert (await given(grid.solve(good, **OPTIONS))).iterations == 3
        await given(grid.delete())

    for _ in range(3):
        found.clear()
        play(kind, embedded.target, scenario, shared_memory=shared_memory)
        assert len(found) == 3


@pytest.fixture
def places():
    made = Places(SharedFile.create(MOST * 800)[0])
    made.grow(MOST)
    return made


def test_places_are_never_given_out_twice(places):
    """A caller that takes, lends and drops at random, and calls that end in between."""
    chance = random.Random(0)
    taken, held, lent = [], [], 0
    for turn in range(5000):
        wanted = chance.choice((1, 800, 1600))
        act = chance.choice(("take", "give back", "keep", "drop", "end", "ask"))
        if act == "take" and (place := places.take(wanted)) is not None:
            assert len(place.numbers) == (2 if wanted > 800 else 1)
            array = place.file.view(place.offset, np.dtype(float), (len(place.numbers) * 100,))
            array[...] = turn
            taken.append((place, array, turn))
        elif act == "give back" and taken:
            taken.pop(chance.randrange(len(taken)))[0].give_back()
        elif act == "keep" and taken:
            place, array, number = taken.pop(chance.randrange(len(taken)))
            held.append((place.kept(array), number))
            lent += in_the_file(held[-1][0])
        elif act == "ask":
            array = places.empty(np.dtype(float), ((wanted + 7) // 8,))
            if array is not None:
                array[...] = turn
                held.append((array, turn))
        elif act == "drop" and held:
            held.pop(chance.randrange(len(held)))
        elif act == "end":
            taken.clear()
            places.end_call()
        del act
        array = place = None
        for one, number in held:
            assert (one == number).all()
        for _, one, number in taken:
            assert (one == number).all()
    assert lent > 100
    taken.clear(), held.clear()
    one = None
    places.end_call()
    found = [places.take(1) for _ in range(MOST)]
    assert sorted(one.offset for one in found) == [0, 800, 1600, 2400, 3200, 4000]
    assert places.take(1) is None


def test_where_there_are_two_places_answers_are_copied():
    fresh = Places(SharedFile.create(MOST * 800, reserved=LEAST * 800)[0])
    place, other = fresh.take(800), fresh.take(800)
    assert fresh.take(1) is None
    assert not in_the_file(place.kept(place.file.view(place.offset, np.dtype(float), (100,))))
    assert other.offset == 800
    assert fresh.take(1600) is None
    other.give_back()
    assert fresh.take(1600).offset == 0


def test_the_memory_of_the_other_places_is_taken_when_they_are_needed():
    size = 1 << 20
    file, offer = SharedFile.create(MOST * size, reserved=LEAST * size)

    def taken():
        return os.fstat(offer.message().file_descriptor).st_blocks * 512

    made = Places(file)
    assert LEAST * size <= taken() < MOST * size
    before = file.view(0, np.dtype(np.uint8), (LEAST * size,))
    before[...] = 7
    made.grow(USUAL)
    assert USUAL * size <= taken() < MOST * size
    made.grow(MOST)
    assert taken() >= MOST * size
    assert (before == 7).all()
    assert made.take(2 * size).offset == 0
    assert made.take(2 * size).offset == 2 * size


FORKED = """
import os, sys
import numpy as np
from relaxon.wire.handover import MOST, Places
from relaxon.wire.shared_memory import SharedFile
from relaxon.proto.tensor_pb2 import SharedArray
from relaxon.server.solving import solve_messages
places = Places(SharedFile.create(MOST * 800)[0])
places.grow(MOST)
def kept():
    place = places.take(800)
    array = place.file.view(place.offset, np.dtype(float), (100,))
    array[...] = 1.0
    return place.kept(array)
x = kept()
assert x.base is not None
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.write(ready[1], b"1")
    os.read(go[0], 1)
    os._exit(0 if (x == 1.0).all() else 7)
os.read(ready[0], 1)
del x
free = []
while (place := places.take(800)) is not None:
    free.append(place)
    place.write(np.full(100, 2.0))
os.write(go[1], b"1")
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, len(free))
"""


def test_what_a_forked_child_holds_is_not_written_over():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["0", str(MOST - 1)]


def test_an_answer_at_another_place_is_an_error(places):
    b, wire = np.ones((10, 10)), Wire(shared_memory=True, checksums=True)
    place = places.take(800)
    for offset, good in ((place.offset + 8, False), (place.offset, True)):
        reader = SolutionReader(b, wire, place)
        header = {"x": tensors.header_of(b), "residuals": tensors.header_of(np.ones(1)), "iterations": 0}
        assert reader.take(pb.SolveReply(solution=pb.SolutionHeader(**header, result=pb.RESULT_CONVERGED))) is None
        answer = pb.SolveReply(x=tensors.shared_part(offset))
        if good:
            assert reader.take(answer) is None
        else:
            with pytest.raises(errors.InternalError, match="not where it was to be put"):
                reader.take(answer)


def test_a_call_that_fails_takes_the_file_with_it_and_one_that_is_refused_does_not(places):
    one = Handover(places.file)
    with pytest.raises(errors.InvalidArgument), one.lent() as lent:
        assert lent.take(8) is not None
        raise errors.InvalidArgument("b must be", "b")
    with one.lent() as lent:
        assert lent.take(800).offset == 0  # as before
        with one.lent() as other:
            assert other is None
    with pytest.raises(LookupError), one.lent():
        raise LookupError
    with one.lent() as lent:
        assert lent is None


def test_a_call_that_a_signal_ends_leaves_its_turn_to_the_next_one(places):
    """Wherever the handler raises: at the entry of a function, or where a call of C returns."""

    class Interrupted(BaseException):
        pass

    def interrupted_at(number):
        seen = 0

        def handler(_, event, __):
            nonlocal seen
            seen += event in ("call", "c_return")
            if seen == number:
                raise Interrupted

        one, completed = Handover(places.file), False
        sys.setprofile(handler)
        try:
            with one.lent():
                pass
            completed = True
        except Interrupted:
            pass
        finally:
            sys.setprofile(None)
        one._places = places  # given up after most of the interruptions
        with one.lent() as lent, one.lent() as other:
            assert lent is places, f"interruption {number}"
            assert other is None
        return not completed

    count = 1
    while interrupted_at(count):
        count += 1
    assert count > 8


def answer_alone(x, place, norms=(1.0, 0.5), **changes):
    header = {
        "x": tensors.header_of(x),
        "residuals": tensors.header_of(np.ones(2)),
        "iterations": 1,
        "result": pb.RESULT_CONVERGED,
        "shared_x": SharedArray(offset=place),
        "residual_norms": norms,
    }
    return pb.SolveReply(solution=pb.SolutionHeader(**header | changes))


def test_a_header_alone_is_an_answer(places):
    b, wire = np.ones((10, 10)), Wire(shared_memory=True, checksums=True)
    place = places.take(800)
    place.write(np.full((10, 10), 3.0))
    found = SolutionReader(b, wire, place).take(answer_alone(b, place.offset))
    assert (found.x == 3.0).all()
    assert found.residuals.tolist() == [1.0, 0.5]
    place = places.take(800)
    flaws = {
        "3 residual norms for 1 iterations": answer_alone(b, place.offset, (1.0, 0.5, 0.2)),
        "0 residual norms": answer_alone(b, place.offset, ()),
        "not where it was to be put": answer_alone(b, place.offset + 8),
        "has shape": answer_alone(b[:5], place.offset),
        "must be an array of float64": answer_alone(b.astype(np.float32), place.offset),
    }
    for words, reply in flaws.items():
        with pytest.raises(errors.InternalError, match=words):
            SolutionReader(b, wire, place).take(reply)
    with pytest.raises(errors.InternalError, match="none was agreed on"):
        SolutionReader(b, wire).take(answer_alone(b, 0))


@pytest.mark.parametrize("most", [0, 3, 4])
def test_residuals_of_many_iterations_come_in_parts(client, monkeypatch, most):
    monkeypatch.setattr(solve_messages, "RESIDUALS_IN_HEADER", most)
    ours = in_process(lambda _: LOCAL, SIDES[:3], **OPTIONS)
    with client.poisson.grid(LARGE, boundary="dirichlet") as grid:
        theirs = list(grid.solve_steps(SIDES[:3], **OPTIONS))
        theirs.append(grid.solve(SIDES[0], **OPTIONS))
    for one, other in zip(theirs, [*ours, ours[0]], strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.residuals, other.residuals)
