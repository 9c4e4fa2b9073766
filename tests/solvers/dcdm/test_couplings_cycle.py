"""The cycle for any couplings: its coarse space of connected parts, and the network that chooses a cycle for a grid."""

import argparse
import json

import numpy as np
import pytest
from grid_kinds import random_grid

from relaxon.solvers import PoissonGrid, gallery, num_threads, prepare, solve
from relaxon.solvers.dcdm import coupled_kernels, coupling_command, coupling_systems, coupling_training
from relaxon.solvers.dcdm.coupled import CoupledDirections
from relaxon.solvers.dcdm.coupling_choice import (
    FEATURES,
    Candidate,
    CouplingChoice,
    choice_record,
    load_choice,
    make_coupling_cycle,
    measure_couplings,
)
from relaxon.solvers.dcdm.coupling_training import CouplingTraining, keep_best, train_choice
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.multigrid import parted, sweeps
from relaxon.solvers.multigrid.parted import PartedCycle, Parting

HARDEST = Parting(least=0.1, factor=0.501, sweeps=1, coarse_sweeps=1)
"""The fewest sweeps beside the largest over-correction: the least definite that is allowed."""


def dense(grid, cycle):
    columns = []
    for unit in np.eye(grid.unknowns):
        z = np.empty(grid.shape3)
        cycle(grid.unpack(unit).reshape(grid.shape3), z)
        columns.append(grid.pack(z.reshape(grid.shape)))
    return np.array(columns)


@pytest.mark.parametrize("shape", [(9, 8), (5, 4, 6), (1, 13), (2, 2, 9)])
@pytest.mark.parametrize("seed", range(5))
def test_parts_make_a_symmetric_definite_preconditioner(monkeypatch, shape, seed):
    monkeypatch.setattr(parted, "COARSEST", 4)  # several levels on few cells
    grid = random_grid(seed, shape)
    operator = grid.operator()
    m, a = dense(grid, PartedCycle(operator, HARDEST)), operator.to_csr().toarray()
    size = abs(m).max()
    np.testing.assert_allclose(m, m.T, atol=2e-6 * size)
    values, vectors = np.linalg.eigh(a)
    basis = vectors[:, values > 1e-9 * max(values[-1], 1e-300)] * np.sqrt(
        values[values > 1e-9 * max(values[-1], 1e-300)]
    )
    # The spectrum of M A: above 0, and by the argument in `parted` at most 1 / factor < 2.
    spectrum = np.linalg.eigvalsh(basis.T @ m @ basis)
    assert spectrum[0] > 0
    assert spectrum[-1] < 1 / HARDEST.factor + 1e-3


def test_no_part_has_cells_on_both_sides_of_a_wall_or_a_jump():
    n = 18
    kappa = np.ones((n, n))
    kappa[:, 5:] = 1e4  # in the middle of blocks
    mean = 2 / (1 / kappa[:, :-1] + 1 / kappa[:, 1:])
    faces = [np.pad(kappa[1:], ((1, 1), (0, 0)), "edge"), np.pad(mean, ((0, 0), (1, 1)), "edge")]
    faces[0][7] = 0.0  # a thin wall
    grid = PoissonGrid(np.zeros((n, n), np.uint8), 1.0, "dirichlet", faces)
    level = PartedCycle(grid.operator(), Parting(least=0.1)).levels[0]
    part = np.empty(n * n, int)
    for own in range(len(level.first) - 1):
        part[level.members[level.first[own] : level.first[own + 1]]] = own
    part = part.reshape(n, n)
    assert (part[6] != part[7]).all()
    assert (part[:, 4] != part[:, 5]).all()
    assert (part[8::2] == part[9::2]).all()
    assert (part[:, :4:2] == part[:, 1:4:2]).all()


def test_coarse_couplings_are_sums_over_the_faces_between_parts():
    grid = random_grid(3, (7, 8, 9))
    cycle = PartedCycle(grid.operator(), Parting(least=0.1))
    top, below = cycle.levels[:2]
    transfer = np.zeros((grid.cells.size, len(top.first) - 1))
    for own in range(len(top.first) - 1):
        transfer[top.members[top.first[own] : top.first[own + 1]], own] = 1
    matrix = np.zeros((grid.cells.size,) * 2)
    number = np.arange(grid.cells.size).reshape(grid.shape3)
    for axis, lower in enumerate(top.lower):
        np.add.at(matrix, (number.reshape(-1), np.roll(number, 1, axis).reshape(-1)), lower.reshape(-1))
    joined = transfer.T @ (matrix + matrix.T) @ transfer
    np.fill_diagonal(joined, 0)
    found = np.zeros((len(below.diagonal),) * 2)
    lanes = np.arange(len(below.diagonal)).reshape(-1, 8)
    rows = np.repeat(lanes, np.diff(below.rows.begins), axis=0)
    np.add.at(found, (rows, below.rows.others), below.rows.couplings)
    found = found[: len(joined), : len(joined)]
    np.testing.assert_allclose(found, cycle.parting.factor * joined, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "size", "most"), [("variable", 40, 9), ("layered", 32, 9), ("stretched", 32, 9), ("channel", 40, 12)]
)
def test_few_iterations_where_couplings_vary(name, size, most):
    problem = gallery.make(name, size)
    learned, plain = (solve(problem.grid, problem.b, solver=s) for s in ("dcdm", "mg-cg"))
    assert learned.converged
    assert learned.iterations <= min(most, plain.iterations)
    assert learned.fallbacks == 0


def test_the_result_does_not_depend_on_the_number_of_threads():
    problem = gallery.make("variable", 36)
    found = []
    for threads in (1, 2, 4):
        with num_threads(threads):
            cycle = PartedCycle(
                PoissonGrid(problem.grid.cells, 1 / 36, "dirichlet", problem.grid.coefficient).operator()
            )
            found.append(np.empty(problem.grid.shape3))
            cycle(problem.b, found[-1])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_transfers_follow_the_couplings_where_parts_would_be_nearly_as_many_as_cells():
    n = 24
    kappa = 1e6 ** np.random.default_rng(0).integers(0, 2, (n,) * 3).astype(float)
    widths = 1.2 ** np.abs(np.arange(n) - (n - 1) / 2)
    operator = PoissonGrid(np.zeros((n,) * 3, np.uint8), (widths,) * 3, "dirichlet", kappa).operator()
    parts, following = Candidate(3, Parting()), Candidate(2)
    both = CouplingChoice((parts, following), np.zeros((1, FEATURES)), np.zeros(1), np.zeros((2, 1)), np.zeros(2))
    assert both.chosen(operator) == parts
    assert "parted" not in make_coupling_cycle(operator, both).info
    plain = gallery.make("stretched", n).grid.operator()
    assert "parted" in make_coupling_cycle(plain, both).info


def test_few_unknowns_among_many_walls_take_little_memory():
    cells = np.ones((60, 60, 60), np.uint8)
    cells[30, 30, :50] = 0  # a dense matrix of all cells would be 370 GB
    grid = PoissonGrid(cells, 1.0, "dirichlet", reaction=1e-3)
    forced = CouplingChoice(
        (Candidate(3, Parting()),), np.zeros((1, FEATURES)), np.zeros(1), np.zeros((1, 1)), np.zeros(1)
    )
    b = np.ones(cells.shape)
    assert solve(grid, b, solver=DeepConjugateDirectionCycle(choice=forced)).iterations <= 2


def test_a_twin_shares_nothing_that_a_cycle_writes():
    problem = gallery.make("variable", 12)
    cycle = PartedCycle(problem.grid.operator())
    first, again = np.empty(problem.grid.shape3), np.empty(problem.grid.shape3)
    cycle(problem.b, first)
    kept = [level.x.copy() for level in cycle.levels]
    cycle.twin()(problem.b, again)
    np.testing.assert_array_equal(first, again)
    for level, before in zip(cycle.levels, kept, strict=True):
        np.testing.assert_array_equal(level.x, before)


def test_features_do_not_depend_on_units_and_axes():
    rng = np.random.default_rng(0)
    shape = (12, 9, 10)
    kappa, cells = 10.0 ** rng.uniform(-2, 2, shape), (rng.random(shape) < 0.2).astype(np.uint8)
    seen = measure_couplings(PoissonGrid(cells, (1.0, 1.0, 4.0), "dirichlet", kappa).operator())
    assert seen.shape == (FEATURES,)
    assert ((seen >= 0) & (seen <= 1)).all()
    units = measure_couplings(PoissonGrid(cells, (1e-4, 1e-4, 4e-4), "dirichlet", 1e9 * kappa).operator())
    order = (2, 0, 1)
    turned = PoissonGrid(cells.transpose(order), (4.0, 1.0, 1.0), "dirichlet", kappa.transpose(order))
    for other in (units, measure_couplings(turned.operator())):
        np.testing.assert_allclose(other, seen, atol=1e-6)


def test_the_network_takes_the_candidate_that_it_foretells_the_least_cost():
    choice = load_choice()
    operator = gallery.make("variable", 12).grid.operator()
    costs = choice.costs(measure_couplings(operator))
    assert choice.chosen(operator) == choice.candidates[int(np.argmin(costs))]
    assert CouplingChoice.from_dict(json.loads(json.dumps(choice.as_dict()))).chosen(operator) == choice.chosen(
        operator
    )
    assert choice.count == choice_record()["numbers"]
    # Both coarse spaces are there to choose from, and the network is obeyed.
    kinds = {candidate.parting is None for candidate in choice.candidates}
    assert kinds == {True, False}
    for candidate in (Candidate(2), Candidate(3, Parting())):
        arrays = (np.zeros((1, FEATURES)), np.zeros(1), np.zeros((1, 1)), np.zeros(1))
        forced = CouplingChoice((candidate,), *arrays)
        assert ("parted" in make_coupling_cycle(operator, forced).info) == (candidate.parting is not None)
        problem = gallery.make("variable", 12)
        solution = solve(problem.grid, problem.b, solver=DeepConjugateDirectionCycle(choice=forced))
        assert ("parted" in solution.info) == (candidate.parting is not None)


def test_the_best_set_is_found_greedily():
    costs = np.array([[1.0, 0.0, 5.0], [1.0, 5.0, 0.0], [1.0, 4.0, 4.0]])
    assert keep_best(costs, 1) == [0]
    assert set(keep_best(costs, 3)) == {0, 1, 2}


def test_training_repeats_itself_and_its_file_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(coupling_training, "FIT_STEPS", 30)
    monkeypatch.setattr(coupling_systems, "SIDES", {2: (12, 20), 3: (6, 9)})
    small = {"tried": 1, "searched": 2, "kept": 2, "systems": 4, "hidden": 2}
    one, other = (train_choice(CouplingTraining(**small)) for _ in range(2))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    parser = argparse.ArgumentParser()
    coupling_command.add_arguments(parser)
    out = tmp_path / "found" / "couplings.json"
    given = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    assert coupling_command.run(parser.parse_args(["--out", str(out), *given])) == 0
    choice = CouplingChoice.from_dict(json.loads(out.read_text())["choice"])
    problem = gallery.make("variable", 12)
    assert solve(problem.grid, problem.b, solver=DeepConjugateDirectionCycle(choice=choice)).converged
    assert coupling_command.run(parser.parse_args(["--out", str(out), "--price", "2"])) == 2


@pytest.mark.parametrize(
    "wrong", [{"factor": 0.5}, {"factor": 1.1}, {"least": -0.1}, {"sweeps": 0}, {"coarse_sweeps": 0}]
)
def test_parting_refuses_what_is_not_definite(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
        Parting(**wrong)


def test_shapes_of_the_network_are_checked():
    arrays = (np.zeros((2, FEATURES)), np.zeros(2), np.zeros((1, 3)), np.zeros(1))
    with pytest.raises(ValueError, match="^output_weight must have the shape"):
        CouplingChoice((Candidate(2),), *arrays)


@pytest.mark.parametrize("shape", [(1, 40, 30), (6, 5, 7), (2, 2, 600), (3, 1, 2)])
def test_a_sweep_over_arrays_put_end_to_end_is_that_by_rows(shape):
    rng = np.random.default_rng(5)
    lower = [rng.random(shape).astype(np.float32) for _ in range(3)]
    for axis, couplings in enumerate(lower):
        np.moveaxis(couplings, axis, 0)[0] = 0
    x, r, weight, diagonal, flat, rows = (rng.random(shape).astype(np.float32) for _ in range(6))
    operator = sweeps.FaceOperator(diagonal, *lower, np.zeros(3, bool))
    for added, factor in ((True, np.float32(0.6)), (False, np.float32(1))):
        sweeps._sweep(x, r, factor, weight, added, operator, flat)
        sweeps._weighted_residual(x, r, factor, weight, added, tuple(operator), rows)
        np.testing.assert_allclose(flat, rows, rtol=1e-5, atol=1e-6)


def test_images_are_those_of_the_operator():
    rng = np.random.default_rng(6)
    for number in range(6):
        operator = coupling_systems.random_system(rng, 2 + number % 2)[0].operator()
        grid = operator.grid
        d, r = (rng.standard_normal(grid.shape3).astype(np.float32) * (operator.diagonal > 0) for _ in range(2))
        q, (_, n1, n2) = np.empty_like(d), grid.shape3
        matrix = [array.reshape(-1) for array in (operator.diagonal, *operator.couplings)]
        flat = [array.reshape(-1) for array in (d, r, q)]
        curvature, projection = coupled_kernels.image(n2, n1 * n2, *matrix, 0.5, *flat)
        expected = 0.5 * operator.apply(d.astype(np.float64), np.empty(grid.shape3))
        bound = 1e-6 * float(np.abs(operator.diagonal).max())
        np.testing.assert_allclose(q, expected, rtol=1e-6, atol=bound * 1e-6)
        assert curvature == pytest.approx(float((d * expected).sum()), rel=1e-9)
        assert projection == pytest.approx(float((d.astype(np.float64) * r).sum()), abs=1e-9 * d.size)


@pytest.mark.parametrize("jump", [1e-3, 1e6])
def test_float32_directions_reach_a_tight_tolerance_where_the_coefficient_jumps(jump):
    kappa = np.ones((20, 18, 22))
    kappa[5:12, 4:13, 6:15] = jump
    grid = PoissonGrid(np.zeros(kappa.shape, np.uint8), 1 / 20, "dirichlet", kappa)
    prepared = prepare(grid, solver="dcdm")
    solution = prepared.solve(np.random.default_rng(7).standard_normal(kappa.shape), rtol=1e-9)
    assert isinstance(prepared.engine.first, CoupledDirections)
    assert solution.converged
    assert solution.fallbacks == 0
    assert solution.iterations < 20
