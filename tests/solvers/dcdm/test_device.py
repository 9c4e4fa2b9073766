"""`dcdm` by torch on a device: the iteration of the compiled one, shown on the CPU, and a clear no without a GPU."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import relaxon
from relaxon.core import errors
from relaxon.server.app import EmbeddedServer
from relaxon.solvers import (
    DeviceConjugateDirections,
    DeviceUnavailableError,
    PoissonGrid,
    Result,
    SingularSystemError,
    gallery,
    prepare,
    solve,
)
from relaxon.solvers.dcdm.device import DeviceDirections
from relaxon.solvers.torch import solve_tensor

NO_GPU = not torch.cuda.is_available()
GPU = pytest.param("cuda", marks=pytest.mark.skipif(NO_GPU, reason="torch finds no GPU here"))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", ["box", "spheres", "pool", "random", "neumann"])
def test_the_iteration_is_that_of_the_compiled_kernels(name, device):
    problem = gallery.make(name, 32)
    ours = solve(problem.grid, problem.b, device=device, rtol=1e-9)
    theirs = solve(problem.grid, problem.b, solver="dcdm", rtol=1e-9)
    assert ours.result is Result.CONVERGED
    assert ours.relative_residual <= 1e-9
    assert abs(ours.iterations - theirs.iterations) <= 1
    count = min(ours.iterations, theirs.iterations)
    np.testing.assert_allclose(ours.residuals[: count // 2 + 1], theirs.residuals[: count // 2 + 1], rtol=0.02)
    assert np.linalg.norm(ours.x - theirs.x) <= 1e-7 * np.linalg.norm(theirs.x)
    assert device in ours.message


def test_one_cycle_is_the_compiled_one_to_rounding():
    rng = np.random.default_rng(0)
    cells = (rng.random((20, 17, 24)) < 0.15).astype(np.uint8)
    cells[:, :, 20:] = np.where(cells[:, :, 20:] == 0, 2, 1)
    for boundary in ("neumann", "dirichlet", ["periodic", ("dirichlet", "neumann"), "periodic"]):
        grid = PoissonGrid(cells, (1.0, 0.8, 1.2), boundary)
        engine = prepare(grid, solver=DeviceConjugateDirections("cpu", rescue=False)).engine
        assert isinstance(engine, DeviceDirections)
        theirs = prepare(grid, solver="dcdm").engine.first.cycle
        r = (rng.standard_normal(grid.shape3) * grid.fluid).astype(np.float32)
        x, z = np.zeros_like(r), np.zeros_like(r)
        theirs.apply(r.copy(), x, z)
        ours = engine.cycle(torch.from_numpy(r)).numpy()
        assert np.linalg.norm(ours - z) <= 1e-5 * np.linalg.norm(z)


def test_two_dimensions_and_a_start():
    problem = gallery.make("spheres", 64, ndim=2)
    first = solve(problem.grid, problem.b, device="cpu", rtol=1e-4)
    again = solve(problem.grid, problem.b, device="cpu", rtol=1e-8, x0=first.x)
    assert again.converged
    assert again.residuals[0] == pytest.approx(first.true_residual, rel=1e-6)
    assert again.iterations < solve(problem.grid, problem.b, device="cpu", rtol=1e-8).iterations


def test_an_update_and_several_sides_on_one_set_up():
    cells = np.zeros((24, 24, 24), np.uint8)
    prepared = prepare(PoissonGrid(cells, boundary="dirichlet"), device="cpu")
    cells[8:12, 8:12, 8:12] = 1
    moved = PoissonGrid(cells, boundary="dirichlet")
    prepared = prepared.update(moved)
    b = np.random.default_rng(0).standard_normal(cells.shape)
    for scale in (1.0, 1e-12, 1e12):
        solution = prepared.solve(scale * b)
        assert solution.converged
        residual = moved.operator().residual(scale * b * moved.fluid, solution.x)
        assert np.linalg.norm(residual) <= 1.001 * solution.tolerance


@pytest.mark.slow
def test_fused_passes_give_the_same_and_another_geometry_compiles_nothing():
    """Of the CPU's inductor; on a GPU the same functions are fused by Triton."""
    from torch._dynamo.utils import counters

    counts, iterations = [], []
    for name in ("spheres", "pool", "spheres"):
        problem = gallery.make(name, 32)
        solver = DeviceConjugateDirections("cpu", compiled=True, rescue=False)
        fused = solve(problem.grid, problem.b, solver=solver)
        plain = solve(problem.grid, problem.b, device="cpu")
        assert fused.converged
        assert np.linalg.norm(fused.x - plain.x) <= 1e-5 * np.linalg.norm(plain.x)
        iterations.append(fused.iterations - plain.iterations)
        counts.append(counters["stats"]["unique_graphs"])
    assert all(abs(n) <= 1 for n in iterations)
    assert counts[2] == counts[1]


def test_mistakes_are_refused_before_any_work():
    grid = PoissonGrid(np.zeros((8, 8, 8), np.uint8), boundary="dirichlet")
    b = np.ones(grid.shape)
    for device in ("gpu", "meta", "cpu:x", ""):
        with pytest.raises(ValueError, match="device"):
            solve(grid, b, device=device)
    with pytest.raises(TypeError, match="device must be the name"):
        solve(grid, b, device=3)
    with pytest.raises(ValueError, match="only 'dcdm' runs on a device, got 'mg-cg'"):
        solve(grid, b, solver="mg-cg", device="cpu")
    with pytest.raises(ValueError, match="device goes with the name"):
        solve(grid, b, solver=DeviceConjugateDirections("cpu"), device="cpu")
    with pytest.raises(ValueError, match="κ must be 1"):
        solve(PoissonGrid(grid.cells, boundary="dirichlet", coefficient=np.full(grid.shape, 2.0)), b, device="cpu")
    with pytest.raises(ValueError, match="window must be 0 or 1"):
        DeviceConjugateDirections("cpu", window=2)
    with pytest.raises(ValueError, match="device must be None with a sparse matrix"):
        solve(grid.operator().to_csr(), b.reshape(-1), device="cpu")


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_so_in_process_and_by_the_server():
    grid = PoissonGrid(np.zeros((8, 8, 8), np.uint8), boundary="dirichlet")
    with pytest.raises(DeviceUnavailableError, match="finds no GPU here"):
        solve(grid, np.ones(grid.shape), device="cuda")
    with (
        EmbeddedServer() as server,
        relaxon.connect(server.target) as client,
        client.poisson.grid(grid.cells, boundary="dirichlet") as kept,
        pytest.raises(errors.FailedPrecondition, match="finds no GPU here"),
    ):
        kept.solve(np.ones(grid.shape), device="cuda")


def test_over_grpc_a_device_is_the_server_s():
    problem = gallery.make("pool", 24)
    grid = problem.grid
    with (
        EmbeddedServer() as server,
        relaxon.connect(server.target) as client,
        client.poisson.grid(grid.cells, grid.spacing, grid.boundary) as kept,
    ):
        solution = kept.solve(problem.b, device="cpu")
        assert solution.converged
        assert "on cpu" in solution.message
        assert np.array_equal(solution.x, solve(grid, problem.b, device="cpu").x)
        steps = list(kept.solve_steps([problem.b, problem.b], device="cpu"))
        assert [step.result for step in steps] == [Result.CONVERGED] * 2
        assert kept.solve_many([problem.b], device="cpu")[0].converged
        for device, text in (("tpu:", "device"), ("meta", "device")):
            with pytest.raises(errors.InvalidArgument, match=text):
                kept.solve(problem.b, device=device)
        with pytest.raises(errors.InvalidArgument, match="only 'dcdm'"):
            kept.solve(problem.b, solver="cg", device="cpu")


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_stay_on_their_device(device, dtype):
    problem = gallery.make("pool", 32)
    prepared = prepare(problem.grid, device=device)
    b = torch.tensor(problem.b, dtype=dtype, device=device)
    before = b.clone()
    solution = solve_tensor(prepared, b, rtol=1e-5)
    assert solution.converged
    assert torch.equal(b, before)
    assert (solution.x.dtype, solution.x.device.type, solution.x.shape) == (dtype, b.device.type, b.shape)
    x, right = solution.x.double().cpu().numpy(), b.double().cpu().numpy() * problem.grid.fluid
    assert np.linalg.norm(problem.grid.operator().residual(right, x)) <= 1.1e-5 * np.linalg.norm(right)
    again = solve_tensor(prepared, b, rtol=1e-5, x0=solution.x)
    assert again.iterations <= 1
    assert solve_tensor(prepared, torch.zeros_like(b)).result is Result.CONVERGED


def test_a_closed_box_of_tensors():
    grid = PoissonGrid(np.zeros((16, 16, 16), np.uint8))
    prepared = prepare(grid, device="cpu")
    b = torch.randn(grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(SingularSystemError, match="net source"):
        solve_tensor(prepared, b + 1)
    solution = solve_tensor(prepared, b + 1, inconsistent="project")
    assert solution.converged
    assert abs(float(solution.x.mean())) <= 1e-12
    assert all(later <= 2 * earlier for earlier, later in pairwise(solution.residuals))


def test_a_device_that_is_full_is_a_memory_error(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    grid = PoissonGrid(np.zeros((8, 8, 8), np.uint8), boundary="dirichlet")
    prepared, b = prepare(grid, device="cpu"), np.ones(grid.shape)
    with EmbeddedServer() as server, relaxon.connect(server.target) as client:
        kept = client.poisson.grid(grid.cells, boundary="dirichlet")
        kept.solve(b, device="cpu")
        monkeypatch.setattr("relaxon.solvers.dcdm.device.DeviceCycle.__call__", full)
        with pytest.raises(MemoryError, match="cpu has not enough memory: CUDA out of memory"):
            prepared.solve(b)
        with pytest.raises(MemoryError, match="not enough memory"):
            solve_tensor(prepared, torch.from_numpy(b))
        with pytest.raises(errors.ResourceExhausted, match="memory"):
            kept.solve(b, device="cpu")


def test_tensors_that_do_not_fit_are_refused():
    grid = PoissonGrid(np.zeros((8, 8, 8), np.uint8), boundary="dirichlet")
    prepared = prepare(grid, device="cpu")
    good = torch.ones(8, 8, 8)
    for bad, error, text in (
        (good.numpy(), TypeError, "b must be a torch tensor"),
        (good.int(), TypeError, "b must be float32 or float64"),
        (good[0], ValueError, "b must have the grid's shape"),
        (good.to("meta"), ValueError, "b must be on cpu"),
        (good * np.nan, ValueError, "b must have a finite norm"),
    ):
        with pytest.raises(error, match=text):
            solve_tensor(prepared, bad)
    with pytest.raises(ValueError, match="prepared must be on a device"):
        solve_tensor(prepare(grid), good)
    with pytest.raises(TypeError, match="prepared must be from prepare"):
        solve_tensor(grid, good)
    with pytest.raises(ValueError, match="rtol"):
        solve_tensor(prepared, good, rtol=0)
