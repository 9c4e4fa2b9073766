"""Grids in several processes: the same answer as in one, whatever the cuts, and mistakes of one raised in all."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from grid_kinds import UNCHOSEN, arguments_of_part, possible_arguments
from ranks import Threads

from relaxon.solvers import PoissonGrid, Result, Robin, gallery, solve
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.distributed import Decomposition, DistributedPoissonGrid


@pytest.fixture(autouse=True)
def small_levels_are_shared(monkeypatch):
    monkeypatch.setattr("relaxon.solvers.distributed.cycle.GATHERED_CELLS", 2_000)


def solved(grid, b, decomposition, **options):
    """The solutions of all processes, and `x` put together."""

    def work(comm):
        own = decomposition.owned(comm.rank)
        part = DistributedPoissonGrid(
            grid.cells[own], decomposition, comm, spacing=grid.spacing, boundary=grid.boundary
        )
        return part.solve(b[own], **options)

    found = Threads(decomposition.processes).run(work)
    x = np.zeros(grid.shape)
    for rank, solution in enumerate(found):
        x[decomposition.owned(rank)] = solution.x
    return found, x


@pytest.mark.parametrize("parts", [(1, 1), (2, 1), (4, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("name", ["box", "spheres", "pool", "random", "neumann"])
def test_the_iteration_is_that_of_one_process_to_rounding(name, parts):
    problem = gallery.make(name, 40)
    one = solve(problem.grid, problem.b, solver="dcdm")
    found, x = solved(problem.grid, problem.b, Decomposition.of(problem.grid.shape, parts[0] * parts[1], parts))
    assert {s.result for s in found} == {Result.CONVERGED}
    assert {s.iterations for s in found} == {one.iterations}
    # The cycle of one process is compiled into another kernel: its float32 values are rounded otherwise.
    np.testing.assert_allclose(found[0].residuals, one.residuals, rtol=1e-3, atol=1e-6 * one.residuals[0])
    assert np.linalg.norm(x - one.x) <= 1e-7 * np.linalg.norm(one.x)
    assert len({s.true_residual for s in found}) == 1


def test_periodic_axes_are_cut_as_well():
    rng = np.random.default_rng(0)
    cells = (rng.random((32, 24, 20)) < 0.1).astype(np.uint8)
    grid = PoissonGrid(cells, (1.0, 0.5, 0.7), ["periodic", "periodic", ("dirichlet", "neumann")])
    b = rng.standard_normal(grid.shape) * grid.fluid
    one = solve(grid, b, solver="dcdm", inconsistent="project")
    found, x = solved(grid, b, Decomposition.of(grid.shape, 4, (2, 2)), inconsistent="project")
    assert found[0].converged
    assert abs(found[0].iterations - one.iterations) <= 1
    assert np.linalg.norm(x - one.x) <= 1e-5 * np.linalg.norm(one.x)


def test_two_dimensions_and_cuts_at_odd_places():
    problem = gallery.make("spheres", 70, 2)
    one = solve(problem.grid, problem.b, solver="dcdm")
    found, x = solved(problem.grid, problem.b, Decomposition((70, 70), ((0, 11, 41, 70),)))
    assert found[0].converged
    assert found[0].iterations == one.iterations
    assert np.linalg.norm(x - one.x) <= 1e-8 * np.linalg.norm(one.x)


def test_a_component_that_crosses_a_cut_is_one_and_is_held_where_another_process_holds_it():
    cells = np.ones((24, 6, 6), np.uint8)
    cells[2:22, 1:5, 1:5] = 0  # a closed pocket across the cut
    cells[:, 5, :] = 0  # a channel along it, open at one end
    cells[:, 4, :] = 1
    cells[23, 5, :] = 2
    grid = PoissonGrid(cells)
    split = Decomposition.of(grid.shape, 2)

    def work(comm):
        part = DistributedPoissonGrid(cells[split.owned(comm.rank)], split, comm)
        return part.prepare().nullspace

    for null in Threads(2).run(work):
        assert null.dimension == grid.nullspace.dimension == 1
        assert null.sizes.tolist() == grid.nullspace.sizes.tolist()


def test_what_is_wrong_in_one_process_is_raised_in_all():
    split = Decomposition.of((16, 8, 8), 2)

    def work(comm):
        cells = np.zeros((8, 8, 8), np.uint8)
        grid = DistributedPoissonGrid(cells, split, comm, boundary="dirichlet")
        b = np.ones((8, 8, 8))
        if comm.rank == 1:
            b[0, 0, 0] = np.nan
        return grid.solve(b)

    threads = Threads(2)
    with pytest.raises(ValueError, match="process 1: b must be finite"):
        threads.run(work)
    assert all(isinstance(error, ValueError) for error in threads.errors)


def test_a_process_without_fluid_takes_part():
    cells = np.zeros((32, 12, 12), np.uint8)
    cells[:16] = 1
    grid = PoissonGrid(cells, boundary="dirichlet")
    b = np.random.default_rng(0).standard_normal(grid.shape)
    found, x = solved(grid, b, Decomposition.of(grid.shape, 2))
    assert found[1].converged
    assert not x[:16].any()


def test_a_callback_in_the_first_process_stops_all():
    problem = gallery.make("spheres", 32)
    split = Decomposition.of(problem.grid.shape, 2)
    found, _ = solved(problem.grid, problem.b, split, callback=lambda progress: progress.iteration == 2)
    assert [s.result for s in found] == [Result.CANCELLED] * 2
    assert [s.iterations for s in found] == [2, 2]


@pytest.mark.parametrize(("n", "processes"), [(64, 4), (100, 3), (97, 5), (31, 7)])
def test_parts_are_thick_enough_and_cover_the_axis(n, processes):
    cuts = Decomposition.of((n, 8, 8), processes, (processes, 1)).bounds[0]
    assert cuts[0] == 0
    assert cuts[-1] == n
    assert min(b - a for a, b in pairwise(cuts)) >= 3


def test_a_grid_that_is_too_thin_for_its_processes_is_refused():
    with pytest.raises(ValueError, match="take fewer processes"):
        Decomposition.of((8, 8, 8), 8, (8, 1))


# --- κ that varies, σ, cut cells, widths, Robin and node sides -------------------------------------------------------

ALONE = DeepConjugateDirectionCycle(rescue=False, choice=UNCHOSEN)


@pytest.mark.parametrize("seed", range(8))
def test_a_grid_of_any_kind_is_solved_as_in_one_process(seed, monkeypatch):
    monkeypatch.setattr("relaxon.solvers.distributed.cycle.GATHERED_CELLS", 500)
    shape = (24, 18, 12) if seed % 2 else (64, 40)
    arguments = possible_arguments(seed, shape)
    grid = PoissonGrid(**arguments)
    b = np.random.default_rng(seed).standard_normal(shape)
    one = solve(grid, b, solver=ALONE, rtol=1e-8, inconsistent="project")
    for parts in ((1, 1), (2, 2) if seed % 2 else (4, 1)):
        split = Decomposition.of(shape, parts[0] * parts[1], parts)

        def work(comm, split=split):
            own = split.owned(comm.rank)
            part = DistributedPoissonGrid(decomposition=split, comm=comm, **arguments_of_part(arguments, own))
            assert np.allclose(part.weighted(b[own]), grid.weighted(b)[own], rtol=1e-15)
            return part.solve(b[own], rtol=1e-8, inconsistent="project")

        found = Threads(split.processes).run(work)
        x = np.zeros(shape)
        for rank, solution in enumerate(found):
            x[split.owned(rank)] = solution.x
        assert {s.result for s in found} == {one.result} == {Result.CONVERGED}
        assert abs(found[0].iterations - one.iterations) <= 1
        assert np.linalg.norm(x - one.x) <= 1e-7 * np.linalg.norm(one.x)
        assert (found[0].info["shared_levels"] >= 1) == (split.processes > 1)
        assert found[0].info.get("eliminated") == one.info.get("eliminated")
        # Of one order only: in one process directions are rounded to float32.
        assert 0.2 <= found[0].backward_error / one.backward_error <= 5.0


def test_units_beyond_squares_and_constants_that_next_to_nothing_holds():
    shape = (24, 16)
    kappa = 1e90 * 10.0 ** np.random.default_rng(0).uniform(0, 3, shape)
    for more in ({"coefficient": kappa}, {"reaction": 1e-3}, {"boundary": [("neumann", Robin(1e-3)), "periodic"]}):
        grid = PoissonGrid(np.zeros(shape, np.uint8), 0.1, **more)
        b = 1.0 + np.random.default_rng(1).standard_normal(shape)
        b -= b.mean() if "coefficient" in more else 0
        one = solve(grid, b, solver=ALONE, rtol=1e-8)
        split = Decomposition.of(shape, 2)

        def work(comm, more=more, split=split, b=b, grid=grid):
            own = split.owned(comm.rank)
            mine = more | ({"coefficient": kappa[own]} if "coefficient" in more else {})
            part = DistributedPoissonGrid(np.zeros(shape, np.uint8)[own], split, comm, spacing=0.1, **mine)
            z, whole = (
                part.preconditioner()(b[own]),
                grid.unpack(grid.preconditioner(learned=False) @ b.reshape(-1))[own],
            )
            assert np.linalg.norm(z - whole) <= 1e-5 * np.linalg.norm(whole)
            return part.solve(b[own], rtol=1e-8)

        found = Threads(2).run(work)
        assert {s.result for s in found} == {one.result} == {Result.CONVERGED}
        assert abs(found[0].iterations - one.iterations) <= 1
        x = np.concatenate([s.x for s in found])
        assert np.linalg.norm(x - one.x) <= 1e-7 * np.linalg.norm(one.x)


def test_what_processes_give_must_agree():
    split = Decomposition.of((8, 6), 2)

    def given(comm, **arguments):
        DistributedPoissonGrid(np.zeros((4, 6), np.uint8), split, comm, **arguments)

    faces = [np.ones((5, 6)), np.ones((4, 7))]
    for text, work in (
        ("same form in all", lambda comm: given(comm, reaction=None if comm.rank else 1.0)),
        (r"coefficient\[0\] must be the same", lambda c: given(c, coefficient=[(1.0 + c.rank) * f for f in faces])),
        ("reaction must have the shape", lambda comm: given(comm, reaction=np.ones((8, 6)))),
        ("reaction must be at least 0", lambda comm: given(comm, reaction=np.ones((4, 6)) - 2 * comm.rank)),
        (r"boundary\[1\] must have an h", lambda comm: given(comm, boundary=["neumann", Robin(np.ones(8))])),
        ("volume must be greater than 0", lambda comm: given(comm, volume=np.zeros((4, 6)))),
    ):
        threads = Threads(2)
        with pytest.raises(ValueError, match=text):
            threads.run(work)
        assert all(isinstance(error, ValueError) for error in threads.errors)
