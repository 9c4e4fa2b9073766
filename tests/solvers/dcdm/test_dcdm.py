"""The deep conjugate direction method: what holds whatever the network returns, and what the shipped one is for."""

import argparse
import dataclasses
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from relaxon.solvers import (
    DeepConjugateDirection,
    DeepConjugateDirectionCNN,
    PoissonGrid,
    Result,
    gallery,
    prepare,
    solve,
)
from relaxon.solvers.dcdm import command, cycle_command, training
from relaxon.solvers.dcdm.cnn import NetworkDirection, load_network, shipped_weights, weights_metadata
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.dcdm.cycle_training import CycleTraining, read_model, train_cycle, write_model
from relaxon.solvers.dcdm.network import ARCHITECTURES, DirectionNetwork
from relaxon.solvers.dcdm.ritz import lanczos_basis
from relaxon.solvers.dcdm.training import DirectionTraining, DirectionTrainingReport, method_step, stencil_image, train
from relaxon.solvers.dcdm.two_grid_start import start_as_two_grid_cycle
from relaxon.solvers.multigrid.constants import chebyshev


def noisy(r):
    """A direction that is neither linear nor symmetric, but points downhill on the whole."""
    rng = np.random.default_rng(int(abs(r).sum() * 1e6) % 2**32)
    return (r * rng.uniform(0.2, 3.0, r.shape)).astype(np.float32)


@pytest.mark.parametrize(("network", "count"), [(64, 97_457), (128, 152_881)])
def test_the_networks_have_the_papers_parameter_counts(network, count):
    assert DirectionNetwork(ARCHITECTURES[network]).parameter_count == count


@pytest.mark.parametrize("name", ["pool", "random", "neumann"])
def test_the_errors_a_norm_never_grows(name):
    problem = gallery.make(name, 11)
    exact = solve(problem.grid, problem.b, solver="scipy-direct", rtol=1e-12).x
    operator = problem.grid.operator()
    norms = []
    for steps in range(1, 16):
        x = solve(problem.grid, problem.b, solver=DeepConjugateDirection(noisy), max_iterations=steps).x
        norms.append(float(np.sum((x - exact) * operator.matvec(x - exact))))
    assert np.all(np.diff(norms) <= 1e-9 * norms[0])


def test_a_direction_is_conjugate_to_the_two_before_it():
    problem = gallery.make("spheres", 12)
    engine = prepare(problem.grid, solver=DeepConjugateDirection(noisy)).engine
    seen = []
    searched = engine._search

    def spy(slot, past, norm, monitor, plain):
        result = searched(slot, past, norm, monitor, plain)
        seen.append((engine._directions[slot].copy(), engine._images[slot].copy()))
        return result

    engine._search = spy
    from relaxon.solvers.interface.engine import Monitor

    shape = problem.grid.shape3
    engine.run(problem.b.reshape(shape).copy(), np.zeros(shape), Monitor(0.0), 8)
    for step in range(2, 8):
        for before in (step - 1, step - 2):
            (d, ad), (p, ap) = seen[step], seen[before]
            assert abs(np.vdot(d, ap)) < 1e-10 * np.sqrt(np.vdot(d, ad) * np.vdot(p, ap))
    assert abs(np.vdot(seen[5][0], seen[0][1])) > 1e-8  # further back nothing is done


def test_with_a_linear_direction_the_method_is_conjugate_gradients():
    problem = gallery.make("box", 10)
    ours = solve(problem.grid, problem.b, solver=DeepConjugateDirection(lambda r: r.copy()), rtol=1e-8)
    theirs = solve(problem.grid, problem.b, solver="cg", rtol=1e-8)
    assert abs(ours.iterations - theirs.iterations) <= 1
    np.testing.assert_allclose(ours.residuals[:10], theirs.residuals[:10], rtol=1e-8)


@pytest.mark.parametrize(
    "direction",
    [lambda r: np.full_like(r, np.nan), lambda r: np.zeros_like(r), lambda r: r[:1], lambda r: np.full_like(r, np.inf)],
    ids=["nan", "zero", "wrong shape", "infinite"],
)
def test_a_useless_direction_is_replaced_and_counted(direction):
    problem = gallery.make("pool", 9)
    solution = solve(problem.grid, problem.b, solver=DeepConjugateDirection(direction), max_iterations=500)
    assert solution.converged
    assert solution.fallbacks == solution.iterations > 0


@pytest.mark.parametrize("name", [n for n in gallery.names() if n != "plume"])
@pytest.mark.parametrize(("ndim", "size"), [(2, 21), (3, 13)])
def test_the_network_solves_every_kind_of_problem(name, ndim, size):
    problem = gallery.make(name, size, ndim=ndim)
    solution = solve(problem.grid, problem.b, solver="dcdm-cnn", rtol=1e-6)
    exact = solve(problem.grid, problem.b, solver="scipy-direct", rtol=1e-11).x
    assert solution.result is Result.CONVERGED
    assert np.linalg.norm(solution.x - exact) < 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", ["neumann", "spheres", "pool"])
def test_the_network_needs_far_fewer_iterations_than_conjugate_gradients(name):
    problem = gallery.make(name, 28, seed=7)
    ours = solve(problem.grid, problem.b, solver="dcdm-cnn", rtol=1e-4, max_iterations=200)
    theirs = solve(problem.grid, problem.b, solver="cg", rtol=1e-4)
    assert ours.converged
    assert ours.iterations < 0.5 * theirs.iterations


@pytest.mark.parametrize("name", ["box", "spheres", "pool", "random", "neumann"])
@pytest.mark.parametrize(("ndim", "size"), [(3, 36), (2, 150)])
def test_the_learned_constants_need_no_more_iterations_than_chebyshevs(name, ndim, size):
    for seed in (101, 102):
        problem = gallery.make(name, size, ndim, seed=seed)
        cycles = DeepConjugateDirectionCycle(rescue=False), DeepConjugateDirectionCycle(chebyshev(ndim), rescue=False)
        learned, untrained = (solve(problem.grid, problem.b, solver=cycle).iterations for cycle in cycles)
        assert learned <= untrained


@pytest.mark.parametrize("ndim", [2, 3])
def test_training_the_cycle_is_repeatable_and_lowers_the_objective(ndim, tmp_path):
    settings = CycleTraining(ndim, 12, "porous", count=4, steps=20, batch=2, iterations=3, rate=0.03)
    seen = []
    one = train_cycle(settings, lambda step, decades: seen.append((step, decades)))
    two = train_cycle(settings)
    assert one["levels"] == two["levels"]
    assert len(seen) == settings.steps
    untrained = train_cycle(replace(settings, rate=1e-12))
    assert one["decades_last"] < untrained["decades_last"]
    write_model(tmp_path / "m.json", "a", one)
    write_model(tmp_path / "m.json", "b", two)
    constants = read_model(tmp_path / "m.json", "a")
    problem = gallery.make("random", 20, ndim)
    assert solve(problem.grid, problem.b, solver=DeepConjugateDirectionCycle(constants)).converged


def test_training_the_cycle_leaves_torch_s_global_stream_alone():
    settings = CycleTraining(ndim=2, size=12, count=2, steps=1, batch=1)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(train_cycle(settings)["levels"])
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_training_of_the_cycle_can_be_stopped():
    settings = CycleTraining(ndim=2, size=12, count=2, steps=50, batch=1)
    assert train_cycle(settings, lambda step, decades: step == 3)["steps"] == 3


@pytest.mark.parametrize("name", ["ndim", "size", "steps", "geometries", "rate"])
def test_settings_of_the_cycles_training_are_checked(name):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must be"):
        CycleTraining(**{name: "no" if name == "geometries" else 0})


def test_the_error_shrinks_in_its_energy_norm_whatever_the_window():
    problem = gallery.make("pool", 20)
    exact = solve(problem.grid, problem.b, solver="scipy-direct", rtol=1e-12).x
    for window in (0, 1, 2, 3):
        energies = []
        for steps in range(1, 7):
            solver = DeepConjugateDirectionCycle(window=window)
            error = solve(problem.grid, problem.b, solver=solver, max_iterations=steps, rtol=1e-14).x - exact
            energies.append(float(np.vdot(error, problem.grid.operator().matvec(error))))
        assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(energies))


@pytest.mark.parametrize("name", ["spheres", "neumann"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_tolerances_beyond_float32_are_reached(name, ndim):
    problem = gallery.make(name, 32, ndim)
    solution = solve(problem.grid, problem.b, rtol=1e-12)
    assert solution.converged
    assert solution.iterations < 25


def test_a_good_start_saves_iterations():
    problem = gallery.make("spheres", 32)
    first = solve(problem.grid, problem.b, rtol=1e-4)
    assert solve(problem.grid, problem.b, x0=first.x).iterations < solve(problem.grid, problem.b).iterations
    far = solve(problem.grid, problem.b, x0=np.where(problem.grid.fluid, 1e12, 0.0))
    assert far.converged


def test_scaling_the_right_hand_side_scales_the_solution():
    problem = gallery.make("spheres", 12)
    one = solve(problem.grid, problem.b, solver="dcdm-cnn", max_iterations=5).x
    many = solve(problem.grid, 2.0**40 * problem.b, solver="dcdm-cnn", max_iterations=5).x
    np.testing.assert_allclose(many, 2.0**40 * one, rtol=1e-3, atol=1e-4 * 2.0**40 * abs(one).max())


def test_bfloat16_gives_the_same_direction_to_its_precision():
    r = np.random.default_rng(0).standard_normal((20, 18, 16))
    one, two = (
        NetworkDirection(load_network(shipped_weights()), r.shape, dtype)(r).copy()
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert np.vdot(one, two) > 0.999 * np.linalg.norm(one) * np.linalg.norm(two)


def test_slabs_give_what_the_whole_grid_gives(monkeypatch):
    from relaxon.solvers.dcdm import cnn

    r = np.random.default_rng(0).standard_normal((90, 6, 5))
    direction = NetworkDirection(load_network(shipped_weights()), r.shape, torch.float32)
    whole = direction(r).copy()
    monkeypatch.setattr(cnn, "SLAB_CELLS", 16 * 30)
    np.testing.assert_allclose(direction(r), whole, atol=1e-4 * abs(whole).max())


def test_weights_of_another_network_or_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="weights must be those of the 128-network"):
        load_network(shipped_weights(), 128)
    problem = gallery.make("box", 6)
    with pytest.raises(FileNotFoundError):
        solve(problem.grid, problem.b, solver=DeepConjugateDirectionCNN(network=128))


def test_the_weights_say_how_they_were_trained():
    metadata = weights_metadata()
    assert metadata["parameters"] == 97_457
    for stage in metadata["stages"]:
        assert stage["report"]["steps"] == stage["settings"]["steps"]
        assert len(stage["report"]["loss"]) == stage["settings"]["steps"] // 10


def test_ritz_values_meet_the_ends_of_the_boxs_spectrum():
    n = 8
    basis = lanczos_basis((n, n, n), 90, seed=1)
    one = 2 - 2 * np.cos(np.pi * np.arange(n) / n)
    known = np.sort((one[:, None, None] + one[:, None] + one).ravel())
    assert basis.values[-1] == pytest.approx(known[-1], rel=1e-3)
    assert basis.values[0] == pytest.approx(known[1], rel=2e-2)
    vectors = basis.vectors(5).reshape(5, -1)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-4)


def test_combinations_are_normalised_consistent_and_functions_of_seed_and_index():
    basis = lanczos_basis((6, 6, 6), 40)
    b = basis.combinations(3, [0, 1, 2])
    np.testing.assert_allclose(np.linalg.norm(b.reshape(3, -1), axis=1), 1, rtol=1e-5)
    assert abs(b.sum((1, 2, 3))).max() < 1e-3
    np.testing.assert_allclose(basis.combinations(3, [2])[0], b[2], atol=1e-6)
    assert abs(basis.combinations(4, [2])[0] - b[2]).max() > 1e-3


def test_the_training_stencil_is_the_operator():
    problem = gallery.make("spheres", (5, 6, 7))
    grid = PoissonGrid(problem.grid.cells, 1.0, ["neumann", "dirichlet", "neumann"])
    operator = grid.operator(np.float32)
    x = np.where(grid.fluid, np.random.default_rng(0).standard_normal(grid.shape), 0).astype(np.float32)
    ours = stencil_image(
        torch.from_numpy(x)[None], torch.from_numpy(operator.diagonal)[None], torch.tensor(grid.fluid)[None].float()
    )
    np.testing.assert_allclose(ours[0].numpy(), operator.matvec(x), atol=1e-4)


def test_the_loss_is_one_minus_the_squared_cosine_between_image_and_right_hand_side_at_best():
    torch.manual_seed(0)
    network = DirectionNetwork()
    b = torch.randn(2, 8, 8, 8)
    ones = torch.ones_like(b)
    step = method_step(network, b, 6 * ones, ones, [])
    scaled = b / b.square().mean((1, 2, 3), keepdim=True).sqrt()
    image = scaled - step.residual  # α A f
    cosine = (image * scaled).sum((1, 2, 3)) ** 2 / (image.square().sum((1, 2, 3)) * scaled.square().sum((1, 2, 3)))
    assert (step.loss >= 1 - cosine - 1e-5).all()


def test_a_training_step_is_a_step_of_the_solver():
    problem = gallery.make("spheres", 12)
    grid = PoissonGrid(problem.grid.cells, 1.0, ["neumann", "neumann", ["neumann", "dirichlet"]])
    b = problem.b / np.sqrt(np.mean(problem.b**2))
    network = load_network(shipped_weights())
    direction = NetworkDirection(network, grid.shape3, torch.float32)
    solution = solve(grid, b, solver=DeepConjugateDirection(direction), max_iterations=3)
    tensors = [torch.tensor(v)[None].float() for v in (grid.operator().diagonal, grid.fluid)]
    past, residual, size = [], torch.from_numpy(b)[None].float(), 1.0
    with torch.no_grad():
        for index in range(3):
            step = method_step(network, residual, *tensors, past[-2:])
            past.append((step.direction, step.image))
            residual = step.residual
            size *= float(step.loss) ** 0.5
            assert size == pytest.approx(solution.residuals[index + 1] / solution.residuals[0], rel=1e-3)


@pytest.mark.parametrize("name", [64, 128])
def test_training_starts_from_a_cycle_that_needs_far_fewer_iterations_than_cg(name):
    network = DirectionNetwork(ARCHITECTURES[name])
    start_as_two_grid_cycle(network, torch.Generator().manual_seed(0))
    problem = gallery.make("spheres", 18)
    direction = NetworkDirection(network, problem.grid.shape3, torch.float32)
    ours = solve(problem.grid, problem.b, solver=DeepConjugateDirection(direction), rtol=1e-4)
    theirs = solve(problem.grid, problem.b, solver="cg", rtol=1e-4)
    assert ours.converged
    assert ours.iterations < 0.4 * theirs.iterations


def settings(out: Path, **changes) -> DirectionTraining:
    values = {"size": 8, "steps": 12, "batch": 2, "ritz_vectors": 20, "checkpoint_every": 6, "rounds": 3}
    return DirectionTraining(out=out, **(values | changes))


@pytest.fixture
def brief_validation(monkeypatch):
    """Few and short solves at a checkpoint, which are most of what a short training takes."""
    monkeypatch.setattr(training, "VALIDATION_STEPS", 4)
    monkeypatch.setattr(training, "VALIDATION_PROBLEMS", 2)


@pytest.mark.usefixtures("brief_validation")
@pytest.mark.parametrize("data", ["mixed", "ritz"])
def test_training_is_repeatable_and_resumes_as_if_never_stopped(tmp_path, data):
    whole = train(settings(tmp_path / "whole", data=data))
    half = train(settings(tmp_path / "half", data=data), lambda step, loss: step == 8)
    assert half.stopped
    rest = train(settings(tmp_path / "half", data=data))
    assert rest.loss == whole.loss
    assert (tmp_path / "half/weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()
    record = json.loads((tmp_path / "half/training.json").read_text())
    assert record["report"]["steps"] == 12


def test_every_setting_is_an_option_of_the_command_and_reaches_the_training(tmp_path, monkeypatch):
    parser, asked = argparse.ArgumentParser(), []
    command.add_arguments(parser)
    monkeypatch.setattr(
        training, "train", lambda settings, watcher: asked.append(settings) or DirectionTrainingReport()
    )
    given = DirectionTraining(
        out=tmp_path,
        network=128,
        size=9,
        steps=11,
        batch=3,
        rate=1e-3,
        rounds=5,
        unroll=4,
        window=1,
        data="ritz",
        objective="residual",
        initial="random",
        ritz_vectors=21,
        seed=6,
        start=tmp_path / "w.safetensors",
        checkpoint_every=20,
        bfloat16=True,
    )
    line = []
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        assert field.name == "out" or value != field.default
        line += [f"--{field.name.replace('_', '-')}", *([] if value is True else [str(value)])]
    assert command.run(parser.parse_args(line)) == 0
    assert command.run(parser.parse_args(["--out", str(tmp_path)])) == 0
    assert asked == [given, DirectionTraining(out=tmp_path)]


@pytest.mark.usefixtures("brief_validation")
def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train(settings(tmp_path))
    with pytest.raises(ValueError, match="same settings"):
        train(settings(tmp_path, rate=1e-5))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 2},
        {"steps": 0},
        {"rate": -1.0},
        {"data": "other"},
        {"objective": "other"},
        {"initial": None},
        {"window": 9},
        {"network": 65},
        {"batch": 1.5},
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path, changes):
    with pytest.raises((ValueError, TypeError), match=next(iter(changes))):
        settings(tmp_path, **changes)


def maze(n, seed):
    """Walls one cell thick between corridors one cell wide: a random spanning tree of the corridors' crossings."""
    rng = np.random.default_rng(seed)
    cells = np.ones((2 * n + 1, 2 * n + 1), np.uint8)
    cells[1, 1] = 0
    path = [(0, 0)]
    while path:
        i, j = path[-1]
        open_to = [
            (i + a, j + b, a, b)
            for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))
            if 0 <= i + a < n and 0 <= j + b < n and cells[2 * (i + a) + 1, 2 * (j + b) + 1] == 1
        ]
        if not open_to:
            path.pop()
            continue
        p, q, a, b = open_to[rng.integers(len(open_to))]
        cells[2 * i + 1 + a, 2 * j + 1 + b] = cells[2 * p + 1, 2 * q + 1] = 0
        path.append((p, q))
    cells[1, 0] = 2  # the way out
    return PoissonGrid(cells)


def test_a_maze_is_handed_over():
    grid = maze(24, 3)
    b = np.random.default_rng(0).standard_normal(grid.shape)
    rescued = solve(grid, b, solver="dcdm")
    alone = solve(grid, b, solver=DeepConjugateDirectionCycle(rescue=False))
    assert rescued.converged
    assert 0 < rescued.fallbacks < rescued.iterations
    assert rescued.iterations < alone.iterations
    assert len(rescued.residuals) == rescued.iterations + 1


def test_a_rescue_is_a_solve_in_all_respects():
    grid = maze(24, 3)
    b = np.random.default_rng(0).standard_normal(grid.shape)
    prepared = prepare(grid)
    first, second = prepared.solve(b), prepared.solve(b)
    assert first.converged
    assert second.converged
    assert second.iterations <= first.iterations  # what was learned of the grid is kept
    short = prepare(grid).solve(b, max_iterations=5)
    assert (short.result, short.iterations) == (Result.MAX_ITERATIONS, 5)
    seen = []
    stopped = prepare(grid).solve(b, callback=lambda p: seen.append(p.iteration) or p.iteration == 20)
    assert stopped.result is Result.CANCELLED
    assert stopped.iterations == 20


def test_the_cycles_training_command_writes_a_model_that_solves(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    cycle_command.add_arguments(parser)
    out = tmp_path / "new" / "cycle.json"
    small = ["--ndim", "2", "--size", "12", "--count", "2", "--steps", "3", "--batch", "1", "--threads", "1"]
    assert cycle_command.run(parser.parse_args(["--out", str(out), "--name", "mine", *small])) == 0
    problem = gallery.make("spheres", 24, 2)
    assert solve(problem.grid, problem.b, solver=DeepConjugateDirectionCycle(read_model(out, "mine"))).converged
    assert cycle_command.run(parser.parse_args(["--out", str(out), "--steps", "0"])) == 2
    assert "steps must be" in capsys.readouterr().err


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0])
def test_the_first_residual_is_that_of_the_start(value):
    """Also of a start that is 0 but in one cell, far from those that are looked at first."""
    problem = gallery.make("spheres", 16, seed=2)
    start = np.zeros(problem.grid.shape)
    start[tuple(np.argwhere(problem.grid.fluid)[-1])] = value * np.abs(problem.b).max()
    solution = solve(problem.grid, problem.b, x0=start, rtol=1e-6)
    residual = problem.grid.pack(problem.b) - problem.grid.operator().to_csr() @ problem.grid.pack(start)
    assert solution.residuals[0] == pytest.approx(np.linalg.norm(residual), rel=1e-6)
    assert solution.converged
