"""The V-cycles as preconditioners: symmetric, positive, fit for any geometry, equal to their plain statements."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from scipy import ndimage

from relaxon.solvers import MultigridCG, PoissonGrid, gallery, solve
from relaxon.solvers.dcdm.cycle import shipped
from relaxon.solvers.driver.preconditioner import FusedPreconditioner
from relaxon.solvers.grid.couplings import open_faces, side_couplings
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.multigrid.constants import chebyshev, features
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.transfers import pseudo_inverse, transfer_tables
from relaxon.solvers.multigrid.variable import VariableCycle, chebyshev_dampings

SHAPES = [(40, 37), (12, 13, 11), (3, 4, 50), (16, 16, 16), (1, 300), (24, 1, 9), (2, 3)]


def random_grid(shape, seed, kappa=None, isotropic=False):
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=shape, p=[0.7, 0.25, 0.05]).astype(np.uint8)
    cells.flat[0] = 0
    sides = ["neumann", "dirichlet", "periodic"]
    boundary = [sides[rng.integers(3)] for _ in shape]
    if kappa:
        kappa = 10.0 ** rng.uniform(-kappa, kappa, shape)
    spacing = 0.3 if isotropic else rng.uniform(0.5, 2, len(shape))
    return PoissonGrid(cells, spacing, boundary, kappa)


CYCLES = {
    "learned": lambda o: FusedPreconditioner(FusedCycle(o, {d: shipped(d) for d in (2, 3) if d <= o.grid.ndim})),
    "unlearned": lambda o: FusedPreconditioner(FusedCycle(o, {})),
    "jacobi": lambda o: VariableCycle(o, "jacobi"),
    "red-black": lambda o: VariableCycle(o, "red-black"),
}


@pytest.mark.parametrize("name", CYCLES)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cycle_is_symmetric_and_positive(name, seed, shape):
    variable = 1.5 if name in ("jacobi", "red-black") and seed % 2 else None
    grid = random_grid(shape, seed, variable, isotropic=seed < 2)
    operator = grid.operator()
    cycle = CYCLES[name](operator)
    rng = np.random.default_rng(seed)
    # In the operator's range, where alone a singular system's preconditioner has to be definite.
    u, v = (operator.matvec(grid.unpack(rng.standard_normal(grid.unknowns))).reshape(grid.shape3) for _ in range(2))
    mu, mv = np.empty_like(u), np.empty_like(v)
    kept = u.copy()
    cycle(u, mu)
    cycle(v, mv)
    scale = np.linalg.norm(mu) * np.linalg.norm(v)
    assert abs(np.vdot(mu, v) - np.vdot(u, mv)) < 1e-4 * scale
    if np.vdot(u, u) > 0:
        assert np.vdot(mu, u) > 0
        assert np.vdot(mv, v) > 0
    assert (mu[~grid.fluid.reshape(grid.shape3)] == 0).all()
    np.testing.assert_array_equal(u, kept)


@pytest.mark.parametrize(
    "shape",
    [(40, 37), (12, 13, 11), (3, 4, 50), (16, 20, 24)],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_compiled_cycle_is_the_torch_cycle(shape, seed):
    torch = pytest.importorskip("torch")
    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle, stack

    grid = random_grid(shape, seed, isotropic=seed % 2 == 0)
    constants = shipped(grid.ndim)
    # One set of constants for all levels: the torch module has one dimension's.
    sets = dict.fromkeys((1, 2, 3), constants)
    cycle = FusedCycle(grid.operator(), sets)
    module = LearnedCycle.of(constants)
    r = np.random.default_rng(seed).standard_normal(cycle.shape).astype(np.float32) * cycle.levels[0].unknown
    x, z = np.empty_like(r), np.empty_like(r)
    cycle.apply(r, x, z)
    levels = stack([cycle])
    with torch.no_grad():
        expected = module(levels, module.prepare(levels), torch.from_numpy(r)[None])[0].numpy()
    # The finest multiplier is one byte in the compiled cycle: 1/510 of the largest at most.
    assert np.linalg.norm(z - expected) < 5e-3 * np.linalg.norm(expected)


def test_the_torch_constants_survive_the_way_to_numbers_and_back():
    pytest.importorskip("torch")
    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle

    for ndim in (2, 3):
        there = shipped(ndim)
        back = LearnedCycle.of(there).constants()
        for one, other in zip(back.levels, there.levels, strict=True):
            for name, values in one.as_dict().items():
                np.testing.assert_allclose(np.array(values), np.array(other.as_dict()[name]), rtol=1e-6)
        assert back.count == there.count


def test_the_result_does_not_depend_on_the_number_of_threads():
    problem = gallery.make("spheres", 40)
    found = []
    for threads in (1, 2, 4):
        with num_threads(threads):
            grid = PoissonGrid(problem.grid.cells, problem.grid.spacing, problem.grid.boundary)
            found.append(solve(grid, problem.b, solver="dcdm").x)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def coarse_faces_of(fine, steps, half, axis):
    """What `coarsen_faces` sums, with NumPy."""
    faces = np.take(fine, np.arange(0, fine.shape[axis], steps[axis]), axis)
    for other in range(3):
        if other != axis:
            faces = np.add.reduceat(faces, np.arange(0, fine.shape[other], steps[other]), other)
    return half[axis] * faces


@pytest.mark.parametrize("shape", [(12, 13, 11), (16, 8, 9), (4, 5, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_set_up_from_cell_types_is_that_from_arrays(shape, seed):
    grid = random_grid(shape, seed, isotropic=True)
    cycle = FusedCycle(grid.operator(), {3: shipped(3)})
    if len(cycle.levels) < 2:
        pytest.skip("one level")
    faces, side = [f * grid.spacing[0] ** 2 for f in open_faces(grid)], np.zeros((3, *shape))
    for known in side_couplings(grid):
        side[known.axis][known.layer] += known.values * grid.spacing[0] ** 2
    level = cycle.levels[1]
    steps = [2 if n > m else 1 for n, m in zip(shape, level.shape, strict=True)]
    half = [0.5 if s == 2 else 1.0 for s in steps]
    coarse = [coarse_faces_of(f, steps, half, a) for a, f in enumerate(faces)]
    types = grid.cells
    air, fluid = types == 2, types == 0
    for axis in range(3):
        at = np.arange(0, types.shape[axis], steps[axis])
        air, fluid = np.logical_or.reduceat(air, at, axis), np.logical_or.reduceat(fluid, at, axis)
        side = np.add.reduceat(side, at, axis + 1)
    fluid &= ~air
    diagonal = sum(h * s for h, s in zip(half, side, strict=True)) + sum(
        c + np.roll(c, -1, a) for a, c in enumerate(coarse)
    )
    np.testing.assert_allclose(level.operator[0], np.where(fluid, diagonal, 0), rtol=1e-5, atol=1e-5)


def test_features_of_the_finest_level_are_those_of_its_table():
    grid = random_grid((9, 10, 11), 1, isotropic=True)
    cycle = FusedCycle(grid.operator(), {3: shipped(3)})
    level = cycle.levels[0]
    multiplier, unit = level.smoother[0], level.smoother[1]
    diagonal = level.operator[0].astype(np.float32)
    seen = features(diagonal, level.couplings(cycle.wrap), level.unknown, level.nominal, cycle.wrap)
    network = shipped(3).level(0).network(seen)[..., 0]
    expected = np.where(level.unknown, network / np.maximum(diagonal, 1), 0)
    assert np.abs(multiplier * unit - expected).max() <= 0.5001 * unit


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("halved", [False, True])
def test_restriction_gathers_what_interpolation_spreads(n, periodic, halved):
    halved = halved and n > 1
    table = transfer_tables(n, halved, periodic, (False, True))
    m = (n + 1) // 2 if halved else n
    spread = np.zeros((n, m))
    for i in range(n):
        spread[i, table.own[i]] += table.near[i]
        spread[i, table.other[i]] += table.far[i]
    gathered = np.zeros((m, n))
    for coarse in range(m):
        for position in range(4):
            gathered[coarse, (table.base[coarse] + position) % n] += table.weights[coarse, position]
    np.testing.assert_allclose(gathered, spread.T)


def test_the_coarsest_inverse_is_the_pseudo_inverse():
    rng = np.random.default_rng(0)
    matrix = np.zeros((9, 9))
    for a, b in [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (6, 7)]:  # 8 stands alone
        matrix[a, b] = matrix[b, a] = -rng.uniform(0.5, 2)
    np.fill_diagonal(matrix, -matrix.sum(1))
    boundary = np.array([0, 0, 0, 0.7, 0, 0, 0, 0, 1.3])
    expected = np.linalg.pinv(matrix + np.diag(boundary), rcond=1e-10, hermitian=True)
    np.testing.assert_allclose(pseudo_inverse(matrix, boundary), expected, atol=1e-10)


def test_chebyshev_constants_are_two_damped_jacobi_sweeps():
    p = chebyshev(3).levels[0].stencil
    one, two = chebyshev_dampings(3, 2)
    for y in np.linspace(0.1, 2, 7):  # an eigenvalue of D⁻¹A: the stencil's is c₀ + 6 c₁ (1 − y)
        assert 1 - y * (p[0] + 6 * p[1] * (1 - y)) == pytest.approx((1 - one * y) * (1 - two * y))


def test_stretched_cells_are_coarsened_along_the_strong_axis_first():
    grid = PoissonGrid(np.zeros((64, 64), np.uint8), (1.0, 100.0), "dirichlet")
    assert FusedCycle(grid.operator(), {}).levels[1].shape == (32, 1, 64)
    assert VariableCycle(grid.operator()).levels[1].shape == (1, 32, 64)
    b = np.random.default_rng(0).standard_normal(grid.shape)
    for solver in ("dcdm", "mg-cg", "mg-rbgs-cg"):
        assert solve(grid, b, solver=solver).iterations < 15


@pytest.mark.parametrize("solver", ["dcdm", "mg-cg"])
@pytest.mark.parametrize(
    ("shape", "spacing", "boundary"),
    [
        ((4, 4, 600), 1.0, "neumann"),
        ((31, 37, 29), 1.0, "dirichlet"),
        ((24, 24, 24), (1.0, 1.0, 0.01), "dirichlet"),
        ((24, 24, 24), (1.0, 0.1, 0.01), ["periodic", "neumann", "dirichlet"]),
        ((33, 30, 32), 1.0, "periodic"),
        ((1, 64, 64), 1.0, "dirichlet"),
        ((200, 3), 1.0, "dirichlet"),
    ],
)
def test_odd_thin_and_stretched_grids_take_few_iterations(solver, shape, spacing, boundary):
    grid = PoissonGrid(np.zeros(shape, np.uint8), spacing, boundary)
    b = np.random.default_rng(0).standard_normal(shape)
    solution = solve(grid, b, solver=solver, inconsistent="project", rtol=1e-8)
    assert solution.converged
    assert solution.iterations <= 20
    assert solution.fallbacks == 0


@pytest.mark.parametrize("name", ["box", "spheres", "pool", "neumann"])
def test_iterations_do_not_grow_with_the_grid(name):
    few, many = (solve(p.grid, p.b).iterations for p in (gallery.make(name, n, seed=3) for n in (24, 72)))
    assert many <= few + 3


@pytest.mark.parametrize(("jump", "limit"), [(1e3, 20), (1e-3, 20), (1e6, 250)])
def test_jumping_coefficients_are_solved(jump, limit):
    problem = gallery.variable_coefficient(32, jump=jump)
    for solver in ("dcdm", "mg-cg", "mg-rbgs-cg"):
        solution = solve(problem.grid, problem.b, solver=solver)
        assert solution.converged
        assert solution.iterations <= limit


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("solver", ["dcdm", "mg-cg"])
def test_units_do_not_matter(scale, solver):
    problem = gallery.make("spheres", 12)
    grid = PoissonGrid(problem.grid.cells, scale * problem.grid.spacing[0], problem.grid.boundary)
    one, other = (solve(g, problem.b, solver=solver) for g in (grid, problem.grid))
    assert one.iterations == other.iterations
    assert solve(grid, 1e-20 * problem.b, solver=solver).iterations == other.iterations


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kappa", [None, 1.0])
def test_the_preconditioner_serves_other_peoples_solvers(seed, kappa):
    pyamg = pytest.importorskip("pyamg")
    grid = random_grid((14, 15, 16), seed, kappa)
    operator = grid.operator()
    A, M = operator.to_csr(), grid.preconditioner()
    b = A @ np.random.default_rng(seed).standard_normal(grid.unknowns)
    for krylov in (sla.cg, lambda *a, rtol, **k: pyamg.krylov.cg(*a, tol=rtol, **k)):
        steps = []
        x, info = krylov(A, b, M=M, rtol=1e-7, maxiter=60, callback=steps.append)
        assert info == 0
        assert np.linalg.norm(b - A @ x) <= 2e-7 * np.linalg.norm(b)
        assert len(steps) < 40


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(7, 9, 12), (20, 15), (1, 6, 30), (5, 1, 1)])
def test_null_components_are_those_that_scipy_labels(shape, seed):
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=shape, p=[0.45, 0.53, 0.02]).astype(np.uint8)
    cells.flat[0] = 0
    grid = PoissonGrid(cells, 1.0, ["periodic" if rng.random() < 0.3 else "neumann" for _ in shape])
    null = grid.nullspace
    # A null vector of A is constant on a component: count them by the eigenvalues.
    dense = grid.operator().to_csr().toarray()
    assert null.dimension == int((np.linalg.eigvalsh(dense) < 1e-9).sum())
    if not any(grid.periodic) and null.labels is not None:
        labels, _ = ndimage.label(grid.fluid)
        for component in range(1, null.dimension + 1):
            mine = null.labels.reshape(shape) == component
            assert mine.sum() == null.sizes[component]
            assert len(np.unique(labels[mine])) == 1
            assert (labels == labels[mine][0]).sum() == mine.sum()


def test_options_are_checked():
    with pytest.raises(ValueError, match="^smoother must be"):
        MultigridCG(smoother="sor")
    with pytest.raises(ValueError, match="^sweeps must be"):
        MultigridCG(sweeps=0)


@pytest.mark.slow
def test_a_grid_of_more_levels_than_the_training_had_takes_as_few_iterations():
    problem = gallery.make("spheres", 256)
    assert solve(problem.grid, problem.b).iterations <= 8


def test_levels_that_no_training_had_are_chebyshevs():
    torch = pytest.importorskip("torch")
    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle, stack

    constants = shipped(2)
    assert constants.level(constants.trained_levels) is chebyshev(2).levels[0]
    assert constants.level(constants.trained_levels - 1) is constants.levels[-1]
    cycle = FusedCycle(gallery.make("spheres", 300, 2).grid.operator(), {2: constants})
    assert len(cycle.levels) > constants.trained_levels
    r = np.random.default_rng(0).standard_normal(cycle.shape).astype(np.float32) * cycle.levels[0].unknown
    x, z = np.empty_like(r), np.empty_like(r)
    cycle.apply(r, x, z)
    module, levels = LearnedCycle.of(constants), stack([cycle])
    with torch.no_grad():
        expected = module(levels, module.prepare(levels), torch.from_numpy(r)[None])[0].numpy()
    assert np.linalg.norm(z - expected) < 5e-3 * np.linalg.norm(expected)
