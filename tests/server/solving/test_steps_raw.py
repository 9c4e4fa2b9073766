"""`SolveSteps` and `UpdateGrid` as another client may call them: out of turn, too much at a time, cut off."""

import threading
import time

import grpc
import numpy as np
import pytest
from refusals import refused_field
from shared_mappings import settled

import relaxon
from relaxon import client as errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.server.solving import steps
from relaxon.solvers import PoissonGrid, Result, solve
from relaxon.wire import tensors

CELLS = np.zeros((6, 5), np.uint8)
LARGE = np.zeros((400, 350), np.uint8)
B = np.arange(30.0).reshape(CELLS.shape)
MESSAGES_OF_A_LARGE_STEP = 4


def step(b=B, **changes):
    yield pb.StepsRequest(step=pb.StepHeader(b=tensors.header_of(b), **changes))
    for part in tensors.parts_of(b):
        yield pb.StepsRequest(b=part)


def header(grid, **changes):
    return pb.StepsRequest(header=pb.StepsHeader(**{"grid_id": grid.id, "solver": "damped", **changes}))


@pytest.fixture
def grid(client, damped):
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:
        yield kept


CHANGE = pb.GridChange(cells=tensors.header_of(CELLS))
OUT_OF_TURN = {
    "no header": (lambda grid: [*step()], "header", "got step"),
    "two headers": (lambda grid: [header(grid), header(grid)], "step", "got header"),
    "b before its step": (lambda grid: [header(grid), *[*step()][1:]], "step", "got b"),
    "a step before the last b is whole": (lambda grid: [header(grid), next(step()), *step()], "b", "before step"),
    "an empty message": (lambda grid: [header(grid), pb.StepsRequest()], "step", "got an empty message"),
    "no b": (lambda grid: [header(grid), pb.StepsRequest(step=pb.StepHeader())], "b", "dtype"),
    "b of another shape": (lambda grid: [header(grid), *step(np.ones((3, 3)))], "b", "must have the grid's shape"),
    "cells that were announced and do not come": (
        lambda grid: [header(grid), *step(change=CHANGE)],
        "cells",
        "before b",
    ),
    "a change that changes nothing": (
        lambda grid: [header(grid), *step(change=pb.GridChange())],
        "cells",
        "got neither",
    ),
    "an unknown solver": (lambda grid: [header(grid, solver="none")], "solver", "must be one of"),
    "a bad tolerance": (lambda grid: [header(grid, rtol=-1.0)], "rtol", "greater than 0"),
    "an unknown compression": (lambda grid: [header(grid, compression=99)], "compression", "known value"),
    "NaN": (lambda grid: [header(grid), *step(np.full(CELLS.shape, np.nan))], "b", "finite"),
    "a packed b of no possible length after a change": (
        lambda grid: [
            header(grid),
            *_changed(),
            pb.StepsRequest(step=pb.StepHeader(b=tensors.header_of(np.ones(31)))),
        ],
        "b",
        "must have the grid's shape",
    ),
}


def _changed():
    first, *rest = step(change=CHANGE)
    return [first, *(pb.StepsRequest(cells=part) for part in tensors.parts_of(CELLS)), *rest]


@pytest.mark.parametrize("name", OUT_OF_TURN)
def test_a_message_out_of_turn_is_refused_by_name(stub, server, grid, name):
    requests, field, words = OUT_OF_TURN[name]
    before = server.sessions.bytes
    came, description = refused_field(lambda: list(stub.SolveSteps(iter(requests(grid)), timeout=60)))
    assert came == field
    assert words in description
    assert settled(lambda: server.sessions.bytes <= before + grid_set_up(server), True)
    assert grid.solve(B, solver="damped").converged


def grid_set_up(server):
    return sum(place.kept_bytes for one in server.sessions.kept() for place in one.set_ups.values())


def test_who_does_not_read_the_answers_is_not_read_from_either(server, client, damped):
    """Back-pressure: two steps read ahead, two answers behind, and what the connection itself holds."""
    with client.poisson.grid(LARGE, boundary="dirichlet") as kept:
        sent, b = [0], np.ones(LARGE.shape)

        def requests():
            yield header(kept, max_iterations=1)
            for _ in range(200):
                for message in step(b):
                    sent[0] += 1
                    yield message

        call = client.poisson._stub.SolveSteps(requests(), timeout=60)
        steady, since = -1, time.monotonic()
        while time.monotonic() - since < 1.0:
            if sent[0] != steady:
                steady, since = sent[0], time.monotonic()
            time.sleep(0.05)
        assert sent[0] < 30 * MESSAGES_OF_A_LARGE_STEP
        assert damped.iterations < 20
        assert server.sessions.bytes < 100 * b.nbytes  # 200 steps would be 400
        answers = sum(reply.HasField("solution") for reply in call)
        assert answers == 200
        assert settled(lambda: client.status().solves.used)


def test_a_cancel_stops_the_step_that_it_names_and_no_other(client, endless, stub):
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:
        goes_on = threading.Event()

        def requests():
            yield header(kept, rtol=1e-300)
            yield from step()
            yield pb.StepsRequest(cancel=pb.CancelStep(step=7))  # of which there is none yet
            assert endless.started.wait(20)
            yield pb.StepsRequest(cancel=pb.CancelStep(step=0))
            goes_on.wait(20)
            endless.gate.set()
            yield from step()

        replies = []
        for reply in stub.SolveSteps(requests(), timeout=60):
            replies.append(reply)
            if reply.HasField("solution"):
                goes_on.set()
    first, second = (reply.solution for reply in replies if reply.HasField("solution"))
    assert first.result == pb.RESULT_CANCELLED
    assert second.result != pb.RESULT_CANCELLED


@pytest.fixture
def begun(monkeypatch):
    """The steps that were submitted, and how many were submitted and not ended then."""
    found = []
    begin = steps._Stretch.begin

    def recorded(self, number, step):
        found.append((number, len(self._jobs)))
        return begin(self, number, step)

    monkeypatch.setattr(steps._Stretch, "begin", recorded)
    return found


def test_a_step_stands_behind_the_one_that_is_solved(client, endless, stub, begun):
    """It is begun when that has ended, and a cancel does not reach it before."""
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:

        def requests():
            yield header(kept, rtol=1e-300)
            yield from step()
            yield from step(2 * B)
            assert settled(lambda: begun, [(0, 0), (1, 1)])
            yield pb.StepsRequest(cancel=pb.CancelStep(step=1))
            time.sleep(0.2)
            assert client.status().solves.used == 1
            yield pb.StepsRequest(cancel=pb.CancelStep(step=0))
            time.sleep(0.2)
            yield pb.StepsRequest(cancel=pb.CancelStep(step=0))  # which has ended
            endless.gate.set()

        replies = [reply.solution for reply in stub.SolveSteps(requests(), timeout=60) if reply.HasField("solution")]
    assert [reply.result == pb.RESULT_CANCELLED for reply in replies] == [True, False]


def test_a_step_that_changes_the_grid_and_the_one_behind_it_wait_for_themselves(client, endless, stub, begun):
    """What they need in memory is counted for what the grid is by then."""
    endless.gate.set()
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:

        def requests():
            yield header(kept, max_iterations=30)
            yield from step()
            yield from _changed()
            yield from step()
            yield from step()

        answers = sum(reply.HasField("solution") for reply in stub.SolveSteps(requests(), timeout=60))
    assert answers == len(begun) == 4
    assert [number for number, _ in begun] == [0, 1, 2, 3]
    assert [others for _, others in begun][1:3] == [0, 0]


def test_after_a_step_that_fails_the_one_behind_it_is_not_begun(client, damped, stub, begun, monkeypatch):
    damped.gate = threading.Event()
    worked = []
    run = type(damped).prepare

    def prepared(self, operator):
        made = run(self, operator)
        solve_one = made.run

        def failing(b, x, monitor, limit):
            worked.append(float(b.max()))
            damped.started.set()
            assert damped.gate.wait(20)
            if len(worked) == 2:
                raise RuntimeError("of the engine's own")
            return solve_one(b, x, monitor, 1)

        made.run = failing
        return made

    monkeypatch.setattr(type(damped), "prepare", prepared)
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:

        def requests():
            yield header(kept)
            yield from step(B)
            yield from step(2 * B)
            assert settled(lambda: len(begun), 2)
            damped.gate.set()
            yield from step(3 * B)
            yield from step(4 * B)

        replies = []
        with pytest.raises(grpc.RpcError) as caught:
            replies.extend(stub.SolveSteps(requests(), timeout=60))
        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert settled(lambda: client.status().solves.used)
    assert worked == [29.0, 58.0]


def test_callers_take_turns_where_there_are_few_places(serving, damped):
    """With one place for all, a sequence does not keep another's first step waiting until its own end."""
    server = serving(max_pending=1, workers=1)
    order = []

    def sequence(name, ready):
        with relaxon.connect(server.target) as client, client.poisson.grid(CELLS, boundary="dirichlet") as kept:
            ready.wait(20)
            for _ in kept.solve_steps([B] * 60, solver="damped", rtol=1e-300, max_iterations=20):
                order.append(name)

    ready = threading.Barrier(2)
    threads = [threading.Thread(target=sequence, args=(name, ready)) for name in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(order) == ["a"] * 60 + ["b"] * 60
    first = order[0]
    other = order.index("b" if first == "a" else "a")
    assert other < 30
    # Neither finishes while the other has hardly begun.
    assert order[:60].count(first) < 55


@pytest.mark.parametrize("way", ["deadline", "cancel"])
def test_a_call_that_is_cut_off_stops_its_step_within_an_iteration(server, client, endless, stub, way):
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:
        held = threading.Event()

        def requests():
            yield header(kept, rtol=1e-300)
            yield from step()
            yield from step()
            held.wait(30)

        call = stub.SolveSteps(requests(), timeout=1.0 if way == "deadline" else 30)
        assert endless.started.wait(20)
        if way == "cancel":
            call.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        held.set()
        assert caught.value.code().name == {"deadline": "DEADLINE_EXCEEDED", "cancel": "CANCELLED"}[way]
        assert endless.finished.wait(20)
        assert settled(lambda: client.status().solves.used)
        count = endless.iterations
        endless.gate.set()
        time.sleep(0.1)
        assert endless.iterations == count  # the second step was never begun
        assert settled(lambda: server.sessions.kept()[0].users)


@pytest.mark.parametrize("way", ["cancel", "deadline", "callback"])
def test_a_solve_that_is_told_to_stop_makes_no_further_iteration(client, endless, way):
    """The iteration under way is finished, one more at most where the word came in between."""
    told = {}

    def callback(progress):
        if progress.iteration >= 3 and "count" not in told:
            told["count"] = endless.iterations
            if way == "callback":
                return True
            if way == "cancel":
                raise LookupError
        return False

    endless.gate = threading.Event()
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:
        if way == "callback":
            assert kept.solve(B, solver="damped", rtol=1e-300, callback=callback).result is Result.CANCELLED
        else:
            with pytest.raises((LookupError, errors.DeadlineExceeded)):
                kept.solve(B, solver="damped", rtol=1e-300, callback=callback, timeout=1.0)
        assert endless.finished.wait(20)
        stopped = endless.iterations
        time.sleep(0.1)
        assert endless.iterations == stopped
        # 5 ms an iteration here, and 50 ms between a callback's calls: the word itself takes its time.
        assert way == "deadline" or stopped - told["count"] < 40


def test_an_update_waits_for_the_solve_that_runs_and_holds_up_nothing_else(client, endless):
    solid = CELLS.copy()
    solid[2:4, 2:4] = 1
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:
        found, updates = [], []
        options = {"solver": "damped", "rtol": 1e-8}
        solving = threading.Thread(target=lambda: found.append(kept.solve(B, **options)))
        solving.start()
        assert endless.started.wait(20)
        for _ in range(4):
            updates.append(threading.Thread(target=lambda: kept.update(solid)))
            updates[-1].start()
        # Checks of other calls are not behind it.
        assert client.poisson.grid(CELLS).unknowns == 30
        assert client.poisson.list_solvers()
        assert kept.unknowns == 30
        endless.gate.set()
        for thread in (solving, *updates):
            thread.join(30)
            assert not thread.is_alive()
        assert kept.unknowns == 26
        after = kept.solve(B, **options)
    np.testing.assert_array_equal(found[0].x, solve(PoissonGrid(CELLS, boundary="dirichlet"), B, **options).x)
    np.testing.assert_array_equal(after.x, solve(PoissonGrid(solid, boundary="dirichlet"), B, **options).x)


def test_an_update_that_is_cut_off_gives_its_memory_and_place_back(server, client, endless, stub):
    with client.poisson.grid(CELLS, boundary="dirichlet") as kept:
        solving = threading.Thread(target=lambda: kept.solve(B, solver="damped", rtol=1e-8))
        solving.start()
        assert endless.started.wait(20)
        with pytest.raises(errors.DeadlineExceeded):
            kept.update(CELLS, timeout=0.3)
        endless.gate.set()
        solving.join(30)
        assert settled(lambda: client.status().solves.used)
        assert settled(lambda: server.sessions.kept()[0].users)


def test_steps_of_many_clients_take_turns_for_a_place(serving, damped):
    """A server with one place: each call waits for its turn, none is refused, and all come to their end."""
    server = serving(max_pending=1)
    expected = solve(PoissonGrid(CELLS, boundary="dirichlet"), B, solver="damped", max_iterations=5).x
    found = []

    def work():
        with relaxon.connect(server.target) as client, client.poisson.grid(CELLS, boundary="dirichlet") as kept:
            steps = kept.solve_steps([B] * 6, solver="damped", max_iterations=5, warm_start=False)
            found.append([one.x for one in steps])

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 5
    for own in found:
        assert len(own) == 6
        for x in own:
            np.testing.assert_array_equal(x, expected)
    with relaxon.connect(server.target) as client:
        assert settled(lambda: client.status().solves.used)


def test_a_session_that_is_deleted_under_its_steps_lets_them_end(server, client, damped):
    kept = client.poisson.grid(CELLS, boundary="dirichlet")
    found = kept.solve_steps(iter([B, B, B]), solver="damped")
    next(found)
    kept.delete()
    assert len(server.sessions) == 0
    assert server.sessions.bytes > 0  # counted for as long as it is used
    assert all(one.converged for one in found)
    assert settled(lambda: server.sessions.bytes)
