"""Derivatives of the solution: against finite differences to second order, Taylor's remainder, and the adjoint's own
identities; boundary values against smooth solutions that are known."""

import numpy as np
import pytest
import torch

from relaxon.solvers import CellType, PoissonGrid, Result, SingularSystemError, boundary_source, prepare, solve
from relaxon.solvers.torch import NotConvergedError, poisson_solve

EXACT = {"solver": "scipy-direct", "rtol": 1e-12}
SIDES_3D = [("dirichlet", "neumann"), "periodic", ("neumann", "dirichlet")]


def tensor(array, grad=False):
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=grad)


def box(shape=(4, 3), boundary="dirichlet", obstacles=True, spacing=None, coefficient=None):
    cells = np.zeros(shape, np.uint8)
    if obstacles:
        cells[1, 1] = CellType.SOLID
        cells[-1, 0] = CellType.AIR
    return PoissonGrid(cells, spacing or [0.5 + 0.3 * a for a in range(len(shape))], boundary, coefficient)


GRIDS = {
    "2-D": box(),
    "open sides": box((4, 3), [("neumann", "dirichlet"), "neumann"]),
    "periodic": box((4, 3), ["periodic", ("dirichlet", "neumann")]),
    "3-D": box((3, 2, 3), SIDES_3D),
    "closed": box((4, 3), "neumann", obstacles=False),
    "one cell wide": box((5, 1), ["dirichlet", "periodic"], obstacles=False),
}
ALL_GRIDS = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def rng_tensors(grid, batch=(), seed=0):
    rng = np.random.default_rng(seed)
    b = tensor(rng.standard_normal((*batch, *grid.shape)), grad=True)
    kappa = tensor(np.exp(rng.standard_normal(grid.shape)), grad=True)
    return rng, b, kappa


def assert_derivatives(function, inputs, entries=False):
    """Against finite differences: the first entry by entry, the second likewise or by their products with vectors."""
    assert torch.autograd.gradcheck(function, inputs)
    tolerance = {} if entries else {"rtol": 1e-5, "atol": 1e-9}
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=not entries, **tolerance)


@ALL_GRIDS
def test_derivatives_in_the_source_and_in_cell_kappa_are_those_of_finite_differences_twice(grid):
    _, b, kappa = rng_tensors(grid)

    def function(b, kappa):
        return poisson_solve(grid, b, coefficient=kappa, inconsistent="project", **EXACT)

    assert_derivatives(function, (b, kappa), entries=grid is GRIDS["2-D"])


@ALL_GRIDS
def test_derivatives_in_face_kappa_are_those_of_finite_differences_twice(grid):
    rng, b, _ = rng_tensors(grid)
    lengths = [tuple(n + (a == axis and not grid.periodic[a]) for a, n in enumerate(grid.shape)) for axis in (0, 1, 2)]
    free = [tensor(np.exp(rng.standard_normal(lengths[axis])), grad=True) for axis in range(grid.ndim)]

    def function(b, *free):
        # On a periodic axis the first and the last face are one: here they are one number.
        faces = [
            torch.cat([face, face.narrow(axis, 0, 1)], axis) if grid.periodic[axis] else face
            for axis, face in enumerate(free)
        ]
        return poisson_solve(grid, b, coefficient=faces, inconsistent="project", **EXACT)

    assert_derivatives(function, (b, *free))


@pytest.mark.parametrize("name", ["2-D", "open sides", "periodic", "3-D"])
@pytest.mark.parametrize("variable", [False, True])
def test_derivatives_in_boundary_values_are_those_of_finite_differences_twice(name, variable):
    grid = GRIDS[name]
    rng, b, kappa = rng_tensors(grid)
    air = tensor(rng.standard_normal(grid.shape), grad=True)
    held = [(axis, side) for axis in range(grid.ndim) for side in (0, 1) if grid.boundary[axis][side] == "dirichlet"]
    shapes = [tuple(n for a, n in enumerate(grid.shape) if a != axis) for axis, _ in held]
    values = [tensor(rng.standard_normal(shape), grad=True) for shape in shapes]
    parameters = (b, air, kappa) if variable else (b, air)

    def function(b, air, *rest):
        pairs = [[None, None] for _ in range(grid.ndim)]
        for (axis, side), value in zip(held, rest[-len(held) :], strict=True):
            pairs[axis][side] = value
        given = rest[0] if variable else None
        return poisson_solve(grid, b, coefficient=given, air_values=air, side_values=pairs, **EXACT)

    assert_derivatives(function, (*parameters, *values))


@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "ic-cg"])
def test_the_taylor_remainder_falls_with_the_square_of_the_step(solver):
    grid = PoissonGrid(box((12, 9, 10), SIDES_3D).cells, 1 / 12, SIDES_3D)
    rng = np.random.default_rng(3)
    b, log_kappa, slope = (tensor(rng.standard_normal(grid.shape)) for _ in range(3))
    target = tensor(rng.standard_normal(grid.shape))

    def loss(log_kappa):
        x = poisson_solve(grid, b, coefficient=log_kappa.exp(), solver=solver, rtol=1e-11)
        return ((x - 0.1 * target) ** 2).sum()

    at = log_kappa.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at)
    steps = [2.0**-k for k in range(3, 8)]
    change = [float(loss(log_kappa + h * slope) - loss(log_kappa)) for h in steps]
    remainder = [abs(c - h * float((gradient * slope).sum())) for c, h in zip(change, steps, strict=True)]
    slopes = np.diff(np.log(remainder)) / np.diff(np.log(steps))
    assert slopes[-1] == pytest.approx(2.0, abs=0.1)


def test_a_batch_is_its_parts_and_its_gradients_add_up():
    grid = GRIDS["3-D"]
    rng, b, kappa = rng_tensors(grid, (3,))
    air = tensor(rng.standard_normal((3, *grid.shape)))
    sides = [(tensor(1.5), None), (None, None), (None, tensor(rng.standard_normal((3, 3, 2))))]
    together = poisson_solve(grid, b, coefficient=kappa, air_values=air, side_values=sides, **EXACT)
    weight = tensor(rng.standard_normal(together.shape))
    whole = torch.autograd.grad((weight * together).sum(), (b, kappa))
    total = torch.zeros_like(kappa)
    for k in range(3):
        part = [(tensor(1.5), None), (None, None), (None, sides[2][1][k])]
        x = poisson_solve(grid, b[k], coefficient=kappa, air_values=air[k], side_values=part, **EXACT)
        torch.testing.assert_close(x, together[k])
        of_b, of_kappa = torch.autograd.grad((weight[k] * x).sum(), (b, kappa))
        torch.testing.assert_close(of_b[k], whole[0][k])
        total += of_kappa
    torch.testing.assert_close(total, whole[1])


def test_the_two_ends_of_a_periodic_axis_share_the_derivative():
    grid = GRIDS["periodic"]
    rng, b, _ = rng_tensors(grid)
    faces = [tensor(np.ones((5, 3)), grad=True), tensor(np.ones((4, 4)), grad=True)]
    (poisson_solve(grid, b, coefficient=faces, **EXACT) * tensor(rng.standard_normal(grid.shape))).sum().backward()
    torch.testing.assert_close(faces[0].grad[0], faces[0].grad[-1])
    assert faces[0].grad[0].abs().max() > 0
    faces[0].data[-1] += 0.1
    with pytest.raises(ValueError, match="must be equal on the first and last faces"):
        poisson_solve(grid, b, coefficient=faces, **EXACT)


def test_one_set_up_serves_all_solves_forward_and_back(monkeypatch):
    from relaxon.solvers.torch import differentiable

    grid = GRIDS["2-D"]
    prepared = prepare(grid, solver="scipy-direct")
    made = []
    monkeypatch.setattr(differentiable, "prepare", lambda *a, **k: made.append(1) or prepare(*a, **k))
    b = tensor(np.ones((2, *grid.shape)), grad=True)
    log = []
    poisson_solve(prepared, b, rtol=1e-12, log=log).sum().backward()
    assert not made
    assert [purpose for purpose, _ in log] == ["forward"] * 2 + ["adjoint"] * 2
    poisson_solve(grid, b, coefficient=tensor(np.ones(grid.shape), grad=True), **EXACT).sum().backward()
    assert made == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_of_what_comes_is_that_of_what_goes(dtype):
    grid = GRIDS["2-D"]
    b, kappa, air = (torch.ones(grid.shape, dtype=dtype, requires_grad=True) for _ in range(3))
    x = poisson_solve(grid, b, coefficient=kappa, air_values=air, **EXACT)
    x.sum().backward()
    assert {x.dtype, b.grad.dtype, kappa.grad.dtype, air.grad.dtype} == {dtype}
    assert poisson_solve(grid, b, air_values=air, **EXACT).dtype is dtype
    exact = solve(grid, b.detach().numpy() + boundary_source(grid, 1.0), solver="scipy-direct", rtol=1e-12).x
    np.testing.assert_allclose(x.detach().numpy(), exact, rtol=1e-5)


def test_nothing_outside_the_fluid_counts_and_no_gradient_goes_there():
    grid = GRIDS["2-D"]
    b, kappa = tensor(np.ones(grid.shape)), tensor(np.ones(grid.shape), grad=True)
    b[~torch.tensor(grid.fluid)] = 7.0
    b.requires_grad_()
    air = torch.full(grid.shape, np.nan, dtype=torch.float64)
    air[torch.tensor(grid.cells == CellType.AIR)] = 2.0
    air.requires_grad_()
    x = poisson_solve(grid, b, coefficient=kappa, air_values=air, **EXACT)
    assert (x[~torch.tensor(grid.fluid)] == 0).all()
    x.sum().backward()
    assert (b.grad[~torch.tensor(grid.fluid)] == 0).all()
    assert (air.grad[torch.tensor(grid.cells != CellType.AIR)] == 0).all()
    assert air.grad[-1, 0] > 0
    assert kappa.grad[1, 1] == 0  # a wall's κ


def test_of_a_closed_box_the_gradient_has_zero_mean_and_a_net_source_is_refused():
    grid = GRIDS["closed"]
    b = tensor(np.random.default_rng(0).standard_normal(grid.shape))
    with pytest.raises(SingularSystemError, match="^b is not in the range"):
        poisson_solve(grid, b, **EXACT)
    b = (b - b.mean()).requires_grad_()
    poisson_solve(grid, b, **EXACT)[0, 0].backward()
    assert abs(float(b.grad.mean())) < 1e-12
    assert float(b.grad[0, 0]) > 0


def test_a_solve_that_does_not_converge_is_an_error_or_a_record_forward_and_back():
    grid = PoissonGrid(np.zeros((16, 16), np.uint8), boundary="dirichlet")
    b = torch.rand(grid.shape, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotConvergedError, match="forward solve ended MAX_ITERATIONS after 3") as caught:
        poisson_solve(grid, b, solver="cg", max_iterations=3)
    assert caught.value.solution.result is Result.MAX_ITERATIONS
    # The adjoint alone fails: its tolerance is out of reach of these iterations.
    x = poisson_solve(grid, b, solver="cg", rtol=0.3, adjoint_rtol=1e-12, max_iterations=20)
    with pytest.raises(NotConvergedError, match="adjoint solve"):
        x.square().sum().backward()
    log = []
    x = poisson_solve(grid, b, solver="cg", max_iterations=3, unconverged="record", log=log)
    x.sum().backward()
    assert [(purpose, s.result) for purpose, s in log] == [
        ("forward", Result.MAX_ITERATIONS),
        ("adjoint", Result.MAX_ITERATIONS),
    ]


def test_a_gradient_that_is_not_finite_is_refused():
    grid = GRIDS["2-D"]
    b = tensor(np.ones(grid.shape), grad=True)
    with pytest.raises(ValueError, match="gradient that came back"):
        poisson_solve(grid, b, **EXACT).backward(torch.full(grid.shape, torch.nan, dtype=torch.float64))


GOOD = torch.ones((4, 3), dtype=torch.float64)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "grid", {"grid": np.zeros((4, 3))}),
        (TypeError, "b", {"b": np.ones((4, 3))}),
        (TypeError, "b", {"b": GOOD.to(torch.int64)}),
        (TypeError, "b", {"b": GOOD.to(torch.complex64)}),
        (TypeError, "b", {"b": GOOD.to(torch.bfloat16)}),
        (ValueError, "b", {"b": GOOD * torch.nan}),
        (ValueError, "b", {"b": torch.ones((3, 4), dtype=torch.float64)}),
        (ValueError, "b", {"b": torch.ones((0, 4, 3), dtype=torch.float64)}),
        (ValueError, "b", {"b": torch.ones((), dtype=torch.float64)}),
        (ValueError, "coefficient", {"coefficient": GOOD - 1}),
        (ValueError, "coefficient", {"coefficient": GOOD * torch.nan}),
        (ValueError, "coefficient", {"coefficient": torch.ones(3)}),
        (ValueError, "coefficient", {"coefficient": [GOOD]}),
        (TypeError, "coefficient", {"coefficient": np.ones((4, 3))}),
        (TypeError, r"coefficient\[0\]", {"coefficient": [np.ones((5, 3)), np.ones((4, 4))]}),
        (TypeError, "air_values", {"air_values": 1.0}),
        (ValueError, "air_values", {"air_values": torch.ones(3)}),
        (ValueError, "air_values", {"air_values": GOOD * torch.inf}),
        (ValueError, "side_values", {"side_values": [(None, None)]}),
        (TypeError, r"side_values\[0\]\[0\]", {"side_values": [(1.0, None), (None, None)]}),
        (ValueError, r"side_values\[0\]\[1\]", {"side_values": [(None, torch.ones(4)), (None, None)]}),
        (ValueError, r"side_values\[1\]\[1\]", {"side_values": [(None, None), (None, torch.ones(4) / 0)]}),
        (ValueError, "rtol", {"rtol": 0.0}),
        (ValueError, "adjoint_rtol", {"adjoint_rtol": -1.0}),
        (ValueError, "unconverged", {"unconverged": "ignore"}),
        (ValueError, "log", {"unconverged": "record"}),
        (ValueError, "inconsistent", {"inconsistent": "report"}),
        (ValueError, "x0", {"x0": torch.ones(3)}),
    ],
)
def test_a_mistake_is_refused_by_the_arguments_name(error, name, arguments):
    with pytest.raises(error, match=f"^{name} must"):
        poisson_solve(**({"grid": GRIDS["2-D"], "b": GOOD} | arguments))


def test_a_prepared_solver_takes_neither_another_coefficient_nor_another_solver():
    prepared = prepare(GRIDS["2-D"], solver="cg")
    with pytest.raises(ValueError, match="^coefficient must be None"):
        poisson_solve(prepared, GOOD, coefficient=GOOD)
    with pytest.raises(ValueError, match="^solver must be left out"):
        poisson_solve(prepared, GOOD, solver="mg-cg")


# --- known values beyond the fluid -----------------------------------------------------------------------------------


def smooth(points):
    return np.sin(1.3 * points[0] + 0.4) * np.exp(0.7 * points[1]) + points[-1] ** 2


def source(points):
    """−Δ of `smooth`; in 3-D the last term is in z, in 2-D in y."""
    return (1.3**2 - 0.7**2) * np.sin(1.3 * points[0] + 0.4) * np.exp(0.7 * points[1]) - 2.0


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("where", ["sides", "air"])
def test_boundary_values_give_second_order_convergence_to_a_known_solution(ndim, where):
    errors = []
    for n in (8, 16, 32):
        shape = (n, n + n // 2, n)[:ndim]
        h = [1 / m for m in shape]
        points = np.meshgrid(*[(np.arange(m) + 0.5) / m for m in shape], indexing="ij")
        cells, air, sides = np.zeros(shape, np.uint8), None, None
        if where == "air":  # the outermost layer is AIR: the value at its centres
            cells[tuple(np.pad(np.zeros([m - 2 for m in shape], bool), 1, constant_values=True).nonzero())] = 2
            air = np.where(cells == 2, smooth(points), np.nan)
        else:
            sides = []
            for axis in range(ndim):
                pair = []
                for at in (0.0, 1.0):
                    on = [p.take(0, axis) for p in points]
                    on[axis] = np.full_like(on[axis], at)
                    pair.append(smooth(on))
                sides.append(tuple(pair))
        grid = PoissonGrid(cells, h, "dirichlet" if where == "sides" else "neumann")
        b = source(points) + boundary_source(grid, air, sides)
        error = (solve(grid, b, solver="mg-cg", rtol=1e-11).x - smooth(points))[grid.fluid]
        errors.append(float(np.sqrt(np.mean(error**2))))
    assert np.log2(errors[-2] / errors[-1]) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("name", ["2-D", "open sides", "periodic", "3-D"])
@pytest.mark.parametrize("kind", [None, "cells", "faces"])
def test_a_constant_beyond_every_opening_is_the_solution_without_sources(name, kind):
    plain, rng = GRIDS[name], np.random.default_rng(1)
    kappa = np.exp(rng.standard_normal(plain.shape))
    if kind == "faces":
        kappa = [
            np.exp(rng.standard_normal(tuple(n + (a == b) for b, n in enumerate(plain.shape))))
            for a in range(plain.ndim)
        ]
        for axis in range(plain.ndim):
            if plain.periodic[axis]:
                np.moveaxis(kappa[axis], axis, 0)[-1] = np.moveaxis(kappa[axis], axis, 0)[0]
    grid = PoissonGrid(plain.cells, plain.spacing, plain.boundary, None if kind is None else kappa)
    sides = [tuple(3.0 if side == "dirichlet" else None for side in pair) for pair in grid.boundary]
    b = boundary_source(grid, 3.0, sides)
    np.testing.assert_allclose(grid.pack(solve(grid, b, solver="scipy-direct", rtol=1e-12).x), 3.0, rtol=1e-10)
    torch_sides = [tuple(None if v is None else tensor(v) for v in pair) for pair in sides]
    x = poisson_solve(
        grid,
        torch.zeros(grid.shape, dtype=torch.float64),
        air_values=torch.full(grid.shape, 3.0),
        side_values=torch_sides,
        **EXACT,
    )
    np.testing.assert_allclose(grid.pack(x.numpy()), 3.0, rtol=1e-10)


def test_periodic_neighbours_see_the_air_around_the_edge():
    cells = np.zeros((5, 3), np.uint8)
    cells[0] = CellType.AIR
    grid = PoissonGrid(cells, 1.0, ["periodic", "neumann"])
    air = np.zeros(grid.shape)
    air[0] = [1.0, 2.0, 3.0]
    b = boundary_source(grid, air)
    np.testing.assert_array_equal(b[[1, 4]], [[1, 2, 3], [1, 2, 3]])
    assert not b[2:4].any()


@pytest.mark.parametrize(
    ("error", "name", "air", "sides"),
    [
        (ValueError, "air_values", np.ones(3), None),
        (ValueError, "air_values", np.nan, None),
        (TypeError, "air_values", 1j, None),
        (ValueError, "side_values", None, [(None, None)]),
        (ValueError, "side_values", None, "none"),
        (ValueError, r"side_values\[0\]", None, [1.0, (None, None)]),
        (ValueError, r"side_values\[0\]\[0\]", None, [(1.0, None), (None, None)]),
        (ValueError, r"side_values\[0\]\[1\]", None, [(None, np.ones(4)), (None, None)]),
        (ValueError, r"side_values\[0\]\[1\]", None, [(None, np.nan), (None, None)]),
    ],
)
def test_a_mistake_in_boundary_values_is_refused(error, name, air, sides):
    with pytest.raises(error, match=f"^{name} must"):
        boundary_source(GRIDS["open sides"], air, sides)


@pytest.mark.parametrize("exponent", [-665, -532, 665])
def test_tiny_and_huge_coefficients_have_derivatives(exponent):
    """Of κ by `2^e` with b by `2^e`: x stays, dx/dκ is that of κ by `2^-e`."""
    rng = np.random.default_rng(0)
    kappa, b = rng.uniform(0.5, 2, (7, 6)), rng.standard_normal((7, 6))
    grid, found = PoissonGrid(np.zeros(b.shape, np.uint8), boundary="dirichlet"), []
    for power in (0, exponent):
        k = torch.tensor(np.ldexp(kappa, power), requires_grad=True)
        x = poisson_solve(grid, torch.tensor(np.ldexp(b, power)), coefficient=k, rtol=1e-10)
        x.sum().backward()
        found.append((x.detach().numpy(), np.ldexp(k.grad.numpy(), power)))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6, atol=1e-7)
