"""The client refuses early, in the engines' words, and tells failures apart."""

import socket
import threading

import grpc
import numpy as np
import pytest
from kept_sessions import MadeSince

import relaxon
import relaxon.aio
from relaxon import client as errors
from relaxon.client.shared.target import check_target
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.solvers import PoissonGrid, solve, solve_many
from relaxon.wire import tensors

CELLS = np.zeros((4, 5), np.uint8)
BAD_GRIDS = {
    "cells of floats": {"cells": np.zeros((4, 5))},
    "cells of one axis": {"cells": np.zeros(4, np.uint8)},
    "more cells than can be numbered": {"cells": np.broadcast_to(np.uint8(0), (2048, 2048, 2048))},
    "unknown cell type": {"cells": np.full((4, 5), 3)},
    "no fluid": {"cells": np.ones((4, 5), np.uint8)},
    "negative spacing": {"spacing": -1.0},
    "text for spacing": {"spacing": "1"},
    "unknown boundary": {"boundary": "open"},
    "half periodic": {"boundary": [("periodic", "neumann"), "neumann"]},
    "coefficient of another shape": {"coefficient": np.ones((5, 4))},
    "coefficient 0": {"coefficient": np.zeros((4, 5))},
}
GOOD = np.zeros((4, 5))
BAD_SOLVES = {
    "b of another shape": {"b": np.zeros((5, 4))},
    "complex x0 of a real b": {"x0": GOOD.astype(complex)},
    "long complex b": {"b": GOOD.astype(np.clongdouble)},
    "no b": {"b": None},
    "NaN in b": {"b": np.full((4, 5), np.nan)},
    "x0 of another shape": {"x0": np.zeros(3)},
    "rtol 0": {"rtol": 0.0},
    "negative rtol": {"rtol": -1e-6},
    "rtol NaN": {"rtol": float("nan")},
    "text for rtol": {"rtol": "small"},
    "negative atol": {"atol": -1.0},
    "no iterations": {"max_iterations": 0},
    "iterations in floats": {"max_iterations": 10.0},
    "unknown inconsistent": {"inconsistent": "ignore"},
    "unknown solver": {"solver": "gauss"},
}


@pytest.mark.parametrize("name", BAD_GRIDS)
def test_a_bad_grid_is_refused_in_the_words_of_the_library(client, name):
    arguments = {"cells": CELLS, **BAD_GRIDS[name]}
    with pytest.raises((ValueError, TypeError)) as ours:
        PoissonGrid(**arguments)
    with pytest.raises(errors.InvalidArgument) as theirs:
        client.poisson.grid(**arguments)
    assert str(theirs.value) == str(ours.value)
    assert theirs.value.field == str(ours.value).split()[0]
    assert isinstance(theirs.value, type(ours.value))


@pytest.mark.parametrize("name", BAD_SOLVES)
def test_a_bad_solve_is_refused_in_the_words_of_the_library(client, name):
    arguments = {"b": GOOD, "solver": "cg", **BAD_SOLVES[name]}
    with pytest.raises((ValueError, TypeError)) as ours:
        solve(PoissonGrid(CELLS), **arguments)
    with client.poisson.grid(CELLS) as grid, pytest.raises(errors.InvalidArgument) as theirs:
        grid.solve(**arguments)
    assert str(theirs.value) == str(ours.value)
    assert theirs.value.field == str(ours.value).split()[0]
    assert isinstance(theirs.value, type(ours.value))


@pytest.mark.parametrize("sides", [[], [GOOD, np.zeros((5, 4))], [GOOD, np.full(CELLS.size, np.inf)]])
def test_solve_many_checks_all_sides_before_the_first_is_sent(client, sides):
    with pytest.raises(ValueError, match=r"^b") as ours:
        solve_many(PoissonGrid(CELLS), sides, solver="cg")
    grid = client.poisson.grid(CELLS)
    grid.delete()  # anything sent now would be NotFound
    with pytest.raises(errors.InvalidArgument) as theirs:
        grid.solve_many(sides, solver="cg")
    assert str(theirs.value) == str(ours.value)


def test_solve_many_says_which_side_the_server_refused(client):
    sides = np.zeros((3, 4, 5))
    sides[:, 0, 0], sides[:, 1, 1] = 1.0, -1.0
    sides[2, 1, 1] = 0.0  # a net source in a closed box
    with client.poisson.grid(CELLS) as grid, pytest.raises(errors.InvalidArgument) as caught:
        grid.solve_many(sides, solver="cg")
    assert caught.value.field == "b[2]"
    assert str(caught.value).startswith("b[2] is not in the range")


def test_a_callable_solver_or_object_is_refused(client):
    with (
        client.poisson.grid(CELLS) as grid,
        pytest.raises(errors.InvalidArgument, match=r"^solver must be a name"),
    ):
        grid.solve(GOOD, solver=object())


def test_solvers_are_listed_with_what_they_lack(client):
    listed = {one.name: one for one in client.poisson.list_solvers()}
    assert {"cg", "dcdm", "mg-cg", "pyamg-sa"} <= set(listed)
    assert listed["cg"].available
    assert listed["cg"].summary


def test_a_grid_outlives_neither_its_block_nor_a_failure_in_it(client, embedded):
    made = MadeSince(embedded)
    sizes = []

    def failing():
        with client.poisson.grid(CELLS) as grid:
            sizes.append(len(made))
            raise LookupError(grid.id)

    with pytest.raises(LookupError):
        failing()
    assert sizes == [1]
    assert len(made) == 0
    with client.poisson.grid(CELLS) as grid:
        grid.delete()  # the block's end must not mind
    with pytest.raises(errors.NotFound, match=grid.id):
        grid.delete()


def test_a_block_s_own_error_is_not_hidden_by_a_server_that_is_gone():
    from relaxon.server.app import EmbeddedServer

    server = EmbeddedServer().__enter__()
    client = relaxon.connect(server.target)

    def failing():
        with client.poisson.grid(CELLS):
            server.__exit__(None, None, None)
            raise LookupError

    with pytest.raises(LookupError):
        failing()
    with pytest.raises(errors.Unavailable):
        client.health()


def test_a_server_that_is_not_there_is_unavailable():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match=rf"no server answered at {target} within 0.2 s"):
            relaxon.connect(target, timeout=0.2)
        with pytest.raises(ConnectionError):
            relaxon.connect(target, timeout=0.2)


@pytest.mark.parametrize(
    "arguments", [{"target": ""}, {"target": 50551}, {"timeout": 0}, {"timeout": None}, {"transfer_timeout": -1.0}]
)
def test_connect_refuses_bad_arguments_by_name(arguments):
    (name,) = arguments
    with pytest.raises(errors.InvalidArgument, match=f"^{name} must") as caught:
        relaxon.connect(**arguments)
    assert caught.value.field == name


@pytest.mark.parametrize("connect", [relaxon.connect, relaxon.aio.connect])
@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("http://127.0.0.1:50551", "write '127.0.0.1:50551'"),
        ("https://example.org:443/", "write 'example.org:443' with tls=True"),
        ("grpc://example.org", "write 'example.org:50551'"),
        ("localhost", "write 'localhost:50551'"),
        ("127.0.0.1:50551/", "write '127.0.0.1:50551'"),
        ("localhost:", "write 'localhost:50551'"),
        ("localhost:http", "write 'localhost:50551'"),
        ("localhost:65536", "write 'localhost:50551'"),
        (" localhost:1", "write 'localhost:1'"),
        ("::1", "write '[::1]:50551'"),
        ("::1:50551", "write '[::1]:50551'"),
    ],
)
def test_a_target_of_another_form_is_refused_with_the_one_that_is_meant(connect, target, meant):
    with pytest.raises(errors.InvalidArgument) as refused:
        connect(target)
    assert refused.value.field == "target"
    assert repr(target) in str(refused.value)
    assert str(refused.value).endswith(meant)


@pytest.mark.parametrize(
    "target",
    [
        "dns:///localhost:1",
        "dns:localhost",
        "unix:/run/relaxon",
        "unix:///run/relaxon",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "ipv6:[::1]:1",
        "xds:///relaxon",
        "[::1]:1",
        "[fe80::1%eth0]:1",
        "my-host_1.example:65535",
    ],
)
def test_the_forms_that_grpc_resolves_are_taken(target):
    check_target(target)


SOLUTION = pb.SolutionHeader(
    result=pb.RESULT_CONVERGED,
    x=tensors.describe_array(GOOD),
    residuals=tensors.describe_array(np.zeros(1)),
)
X = [pb.SolveReply(x=part) for part in tensors.split_array(GOOD)]
RESIDUALS = [pb.SolveReply(residuals=part) for part in tensors.split_array(np.zeros(1))]
WRONG_SHAPE = pb.SolutionHeader(result=1, x=tensors.describe_array(np.zeros(3)), residuals=SOLUTION.residuals)
LYING = pb.SolutionHeader(result=1, x=SOLUTION.x, residuals=SOLUTION.residuals, iterations=3)
FROM_THE_FUTURE = pb.SolutionHeader(result=99, x=SOLUTION.x, residuals=SOLUTION.residuals)
BROKEN_ANSWERS = {
    "nothing": ([], "without a solution"),
    "x first": (X, "out of order"),
    "an empty reply": ([pb.SolveReply()], "empty message"),
    "x of another shape": ([pb.SolveReply(solution=WRONG_SHAPE)], "where b has"),
    "residuals that do not count": ([pb.SolveReply(solution=LYING)], "for 3 iterations"),
    "cut in x": ([pb.SolveReply(solution=SOLUTION), X[0]], "incomplete"),
    "no residuals": ([pb.SolveReply(solution=SOLUTION), *X], "residuals is incomplete"),
    "a wrong checksum": ([pb.SolveReply(solution=SOLUTION), X[0], RESIDUALS[0], X[0]], "too many bytes"),
    "an unknown result": ([pb.SolveReply(solution=FROM_THE_FUTURE), *X, *RESIDUALS], "unknown result 99"),
}


@pytest.fixture
def answering():
    """Starts a server whose `Solve` gives the replies it is told, whatever comes."""
    servers = []

    def start(replies):
        class Scripted(poisson_pb2_grpc.PoissonServiceServicer):
            def CreateGrid(self, requests, context):
                for _ in requests:
                    pass
                return pb.Grid(id="one", unknowns=20)

            def Solve(self, requests, context):
                yield from replies

        from concurrent.futures import ThreadPoolExecutor

        server = grpc.server(ThreadPoolExecutor(2))
        poisson_pb2_grpc.add_PoissonServiceServicer_to_server(Scripted(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_a_damaged_answer_is_an_error_and_never_a_solution(answering, name):
    replies, words = BROKEN_ANSWERS[name]
    with relaxon.connect(answering(replies)) as client:
        grid = client.poisson.grid(CELLS)
        with pytest.raises(errors.InternalError, match=words):
            grid.solve(GOOD)


def test_a_sound_answer_is_a_solution_and_leaves_no_thread_behind(answering):
    replies = [pb.SolveReply(solution=SOLUTION), *X, *RESIDUALS]
    with relaxon.connect(answering(replies)) as client:
        grid = client.poisson.grid(CELLS)
        before = threading.active_count()
        for _ in range(20):
            assert grid.solve(GOOD).converged
        assert threading.active_count() <= before + 2
