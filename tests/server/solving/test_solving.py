"""Solves through client and server: the same numbers as in process, and an end when one is asked for."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import relaxon
from relaxon import client as errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.solvers import PoissonGrid, Result, solve
from relaxon.wire import tensors

WAIT = 20
NEVER = 1e-300
"""An rtol that no solve meets."""
LIMIT = 20_000
"""Iterations that a solve which nobody stops would make."""


def obstacle_course(seed=0):
    """Cells with all three types, a coefficient, and a right-hand side."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=(6, 7, 5), p=[0.8, 0.1, 0.1]).astype(np.uint8)
    cells[0, 0] = 0
    return cells, rng.uniform(0.5, 2.0, cells.shape), rng.standard_normal(cells.shape)


SIDES = [("dirichlet", "neumann"), "periodic", "dirichlet"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_a_remote_solution_is_the_local_one_bit_for_bit(client, damped, packed, dtype):
    cells, kappa, b = obstacle_course()
    local = PoissonGrid(cells, (0.5, 1.0, 2.0), SIDES, kappa)
    b = (100 * b).astype(dtype)
    b = local.pack(b) if packed else b
    x0 = np.ones(local.unknowns)
    options = {"solver": "damped", "rtol": 1e-5, "atol": 1e-9, "max_iterations": 300, "x0": x0}
    ours = solve(local, b, **options)
    with client.poisson.grid(cells, (0.5, 1.0, 2.0), SIDES, kappa) as grid:
        assert (grid.shape, grid.unknowns) == (local.shape, local.unknowns)
        theirs = grid.solve(b, **options)
    assert theirs.x.dtype == np.float64
    assert theirs.x.shape == b.shape
    np.testing.assert_array_equal(theirs.x, ours.x)
    np.testing.assert_array_equal(theirs.residuals, ours.residuals)
    for name in ("result", "iterations", "true_residual", "relative_residual", "tolerance", "solver", "info"):
        assert getattr(theirs, name) == getattr(ours, name), name


def test_face_coefficients_travel_too(client, damped):
    rng = np.random.default_rng(1)
    cells = np.zeros((5, 4), np.uint8)
    faces = [rng.uniform(0.5, 2, (6, 4)), rng.uniform(0.5, 2, (5, 5))]
    b = rng.standard_normal((5, 4))
    ours = solve(PoissonGrid(cells, 1.0, "dirichlet", faces), b, solver="damped")
    with client.poisson.grid(cells, 1.0, "dirichlet", faces) as grid:
        np.testing.assert_array_equal(grid.solve(b, solver="damped").x, ours.x)


def test_an_array_of_many_chunks_arrives_in_order(client, damped):
    cells = np.zeros((700, 500), np.uint8)  # 2.7 MiB of b in float64
    b = np.random.default_rng(2).standard_normal(cells.shape)
    ours = solve(PoissonGrid(cells, boundary="dirichlet"), b, solver="damped", max_iterations=3)
    with client.poisson.grid(cells, boundary="dirichlet") as grid:
        theirs = grid.solve(b, solver="damped", max_iterations=3)
    assert theirs.result is Result.MAX_ITERATIONS
    np.testing.assert_array_equal(theirs.x, ours.x)


def test_what_an_inconsistent_right_hand_side_gets(client, damped):
    with client.poisson.grid(np.zeros((4, 4), np.uint8)) as grid:
        assert grid.singular_components == 1
        with pytest.raises(errors.InvalidArgument, match="not in the range") as caught:
            grid.solve(np.ones((4, 4)), solver="damped")
        assert caught.value.field == "b"
        report = grid.solve(np.ones((4, 4)), solver="damped", inconsistent="report")
        assert report.result is Result.SINGULAR_INCONSISTENT
        assert "net source" in report.message
        b = np.arange(16.0).reshape(4, 4)
        assert grid.solve(b, solver="damped", inconsistent="project").converged


def test_only_the_first_solve_of_a_grid_pays_the_setup(client, damped):
    cells = np.zeros((4, 4), np.uint8)
    with client.poisson.grid(cells, boundary="dirichlet") as grid:
        first, second = (grid.solve(np.ones((4, 4)), solver="damped") for _ in range(2))
        assert first.setup_seconds > 0.0
        assert second.setup_seconds == 0.0
        assert damped.prepared == 1
    with client.poisson.grid(cells, boundary="dirichlet") as grid:
        many = grid.solve_many(np.ones((3, 16)), solver="damped")
        assert damped.prepared == 2
        assert len({solution.setup_seconds for solution in many}) == 1
        assert many[2].setup_seconds > 0.0


def test_progress_starts_at_zero_and_only_goes_up(client, endless):
    seen = []

    def callback(progress):
        seen.append(progress)
        return len(seen) == 4

    with client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet") as grid:
        solution = grid.solve(np.ones((4, 4)), solver="damped", rtol=1e-9, callback=callback)
    iterations = [progress.iteration for progress in seen]
    assert iterations[0] == 0
    assert all(a < b for a, b in itertools.pairwise(iterations))
    for progress in seen:
        assert progress.residual == solution.residuals[progress.iteration]
        assert progress.tolerance == solution.tolerance


def test_a_callback_that_returns_true_gets_what_there_is(client, endless):
    with client.poisson.grid(np.zeros((9, 9), np.uint8), boundary="dirichlet") as grid:
        solution = grid.solve(
            np.ones((9, 9)), solver="damped", rtol=NEVER, callback=lambda progress: progress.iteration >= 3
        )
    assert solution.result is Result.CANCELLED
    assert solution.iterations >= 3
    assert 0 < solution.true_residual == pytest.approx(solution.residuals[-1])
    assert solution.true_residual < solution.residuals[0]


def test_an_exception_in_the_callback_ends_the_solve_and_comes_out(client, endless):
    def callback(progress):
        raise LookupError("mine")

    with client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet") as grid:
        with pytest.raises(LookupError, match="mine"):
            grid.solve(np.ones((4, 4)), solver="damped", rtol=NEVER, callback=callback)
        assert endless.finished.wait(WAIT)


def test_a_deadline_reaches_the_solve(client, endless):
    with client.poisson.grid(np.zeros((9, 9), np.uint8), boundary="dirichlet") as grid:
        with pytest.raises(errors.DeadlineExceeded):
            grid.solve(np.ones((9, 9)), solver="damped", rtol=NEVER, timeout=0.3)
        assert endless.finished.wait(WAIT)
    assert endless.iterations < LIMIT


def test_a_caller_that_goes_away_ends_its_solve(server, endless):
    def ended(grid):
        with pytest.raises(errors.Cancelled):
            grid.solve(np.ones((9, 9)), solver="damped", rtol=NEVER)
        outcome.append("cancelled")

    outcome = []
    with relaxon.connect(server.target) as other:
        grid = other.poisson.grid(np.zeros((9, 9), np.uint8), boundary="dirichlet")
        thread = threading.Thread(target=ended, args=(grid,))
        thread.start()
        assert endless.started.wait(WAIT)
    thread.join(WAIT)
    assert outcome == ["cancelled"]
    assert endless.finished.wait(WAIT)
    assert endless.iterations < LIMIT


def test_the_server_answers_and_takes_grids_while_a_solve_runs(server, client, endless):
    solution = []
    with client.poisson.grid(np.zeros((9, 9), np.uint8), boundary="dirichlet") as grid:
        stop = threading.Event()
        thread = threading.Thread(
            target=lambda: solution.append(
                grid.solve(np.ones((9, 9)), solver="damped", rtol=NEVER, callback=lambda _: stop.is_set())
            )
        )
        thread.start()
        assert endless.started.wait(WAIT)
        with relaxon.connect(server.target) as other:
            assert other.health() == "SERVING"
            assert len(other.poisson.list_solvers()) > 5
            with other.poisson.grid(np.zeros((3, 3), np.uint8)) as second:
                assert second.unknowns == 9
        assert not solution
        stop.set()
        thread.join(WAIT)
    assert solution[0].result is Result.CANCELLED


def test_a_deleted_grid_does_not_disturb_the_solve_on_it(client, endless):
    grid = client.poisson.grid(np.zeros((9, 9), np.uint8), boundary="dirichlet")

    def callback(progress):
        if progress.iteration == 0:
            grid.delete()
        return progress.iteration >= 2

    assert grid.solve(np.ones((9, 9)), solver="damped", rtol=NEVER, callback=callback).result is Result.CANCELLED
    with pytest.raises(errors.NotFound):
        grid.solve(np.ones((9, 9)), solver="damped")


@pytest.mark.parametrize("workers", [1, 3])
def test_several_clients_at_once_each_get_their_own_answer(serving, damped, workers):
    server = serving(workers=workers, max_pending=100)
    cells, _, _ = obstacle_course()
    local = PoissonGrid(cells, boundary="dirichlet")
    rng = np.random.default_rng(3)
    sides = rng.standard_normal((6, 3, *cells.shape))
    expected = [[solve(local, b, solver="damped", max_iterations=40).x for b in own] for own in sides]

    def work(own):
        with relaxon.connect(server.target) as client, client.poisson.grid(cells, boundary="dirichlet") as grid:
            return [grid.solve(b, solver="damped", max_iterations=40).x for b in own]

    with ThreadPoolExecutor(len(sides)) as threads:
        np.testing.assert_array_equal(list(threads.map(work, sides)), expected)
    assert len(server.sessions) == 0


def test_too_many_pending_solves_are_refused_and_told_when_to_come_back(serving, endless):
    server = serving(max_pending=1)
    b = np.ones((9, 9))
    with relaxon.connect(server.target) as client:
        grid = client.poisson.grid(np.zeros((9, 9), np.uint8), boundary="dirichlet")
        running = _raw_solve(client, grid, b)
        next(running)  # its first progress
        with pytest.raises(errors.ResourceExhausted, match="pending") as caught:
            grid.solve(b, solver="damped")
        assert caught.value.retry_seconds == 1.0
        running.cancel()
        assert endless.finished.wait(WAIT)
        endless.gate.set()
        assert _when_free(lambda: grid.solve(b, solver="damped")).converged


def test_a_bug_is_internal_and_keeps_its_traceback_on_the_server(client, broken, caplog):
    broken(ValueError("secret path /srv/x"))
    grid = client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet")
    with pytest.raises(errors.InternalError) as caught:
        grid.solve(np.ones((4, 4)), solver="broken")
    assert "secret" not in str(caught.value)
    incident = str(caught.value).split()[-1]
    record = next(record for record in caplog.records if incident in record.getMessage())
    assert "secret path" in str(record.exc_info[1])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("operator must have at most 10 unknowns, got 16"), errors.InvalidArgument),
        (ModuleNotFoundError("No module named 'amg'"), errors.FailedPrecondition),
        (KeyError("levels"), errors.InternalError),
        (MemoryError(), errors.ResourceExhausted),
    ],
)
def test_a_set_up_that_fails_says_whose_fault_it_is(client, broken, error, kind):
    broken(error, in_setup=True)
    with client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet") as grid, pytest.raises(kind):
        grid.solve(np.ones((4, 4)), solver="broken")


def _raw_solve(client, grid, b):
    header = pb.SolveHeader(grid_id=grid.id, solver="damped", rtol=NEVER, b=tensors.header_of(b))
    header.progress_interval.FromMilliseconds(1)
    requests = [pb.SolveRequest(header=header), *(pb.SolveRequest(b=part) for part in tensors.parts_of(b))]
    return client.poisson._stub.Solve(iter(requests), timeout=WAIT)


def _when_free(work):
    """Retries as the server says, only sooner."""
    for _ in range(500):
        try:
            return work()
        except errors.ResourceExhausted:
            time.sleep(0.02)
    raise AssertionError("the server did not get free")


@pytest.mark.slow
@pytest.mark.parametrize("shared_memory", [False, True])
def test_a_right_hand_side_of_134_megabytes_goes_both_ways(server, damped, shared_memory):
    cells = np.zeros((256, 256, 256), np.uint8)
    b = np.random.default_rng(4).standard_normal(cells.shape)
    ours = solve(PoissonGrid(cells, boundary="dirichlet"), b, solver="damped", max_iterations=1)
    with (
        relaxon.connect(server.target, shared_memory=shared_memory) as client,
        client.poisson.grid(cells, boundary="dirichlet") as grid,
    ):
        theirs = grid.solve(b, solver="damped", max_iterations=1)
    assert theirs.x.nbytes == 2**27
    np.testing.assert_array_equal(theirs.x, ours.x)
