"""Projections and proximal operators: they solve the problem that defines them, and their derivatives are right."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

from relaxon.implicit import (  # noqa: E402
    group_soft_threshold,
    project_affine_set,
    project_box,
    project_halfspace,
    project_hyperplane,
    project_l1_ball,
    project_l2_ball,
    project_nonnegative,
    project_positive_semidefinite,
    project_second_order_cone,
    project_simplex,
    project_simplex_entropic,
    prox_elastic_net,
    prox_squared_l2,
    soft_threshold,
)

SIZE = 5


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (x + x.mT)


NORMAL = randn(SIZE, seed=5)
MATRIX = randn(2, SIZE, seed=6)
TOTALS = torch.tensor([0.5, 1.0, 3.0, 9.0], dtype=torch.float64)
POINTS = 1.5 * randn(4, SIZE)

# name: the function, the point, its parameters
OPERATORS = {
    "nonnegative": (project_nonnegative, POINTS, ()),
    "box": (project_box, POINTS, (-0.5 - randn(SIZE, seed=1).abs(), 0.3 + randn(SIZE, seed=2).abs())),
    "simplex": (project_simplex, POINTS, (TOTALS,)),
    "entropic simplex": (project_simplex_entropic, POINTS, (TOTALS,)),
    "l2 ball": (project_l2_ball, POINTS, (TOTALS,)),
    "l1 ball": (project_l1_ball, POINTS, (TOTALS,)),
    "hyperplane": (project_hyperplane, POINTS, (NORMAL, torch.tensor(0.7, dtype=torch.float64))),
    "half-space": (project_halfspace, POINTS, (NORMAL, torch.tensor(0.1, dtype=torch.float64))),
    "affine set": (project_affine_set, POINTS, (MATRIX, randn(2, seed=7))),
    "second-order cone": (
        project_second_order_cone,
        torch.cat((torch.tensor([[0.3], [9.0], [-9.0], [-0.4]]), POINTS), 1),
        (),
    ),
    "semidefinite cone": (lambda x: project_positive_semidefinite(symmetric(x)), randn(2, 4, 4), ()),
    "soft threshold": (soft_threshold, POINTS, (torch.tensor(0.6, dtype=torch.float64),)),
    "group soft threshold": (group_soft_threshold, POINTS, (TOTALS,)),
    "elastic net": (prox_elastic_net, POINTS, (0.3 + TOTALS.unsqueeze(-1), TOTALS.unsqueeze(-1))),
    "squared norm": (prox_squared_l2, POINTS, (TOTALS.unsqueeze(-1),)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_derivatives_of_both_orders_and_modes_are_right(name):
    function, point, parameters = OPERATORS[name]
    inputs = tuple(value.clone().requires_grad_() for value in (point, *parameters))
    assert gradcheck(function, inputs, check_forward_ad=True)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_batch_is_as_its_samples_are(name):
    function, point, parameters = OPERATORS[name]
    along = tuple(0 if value.ndim and len(value) == len(point) else None for value in parameters)
    mapped = torch.func.vmap(function, (0, *along))(point, *parameters)
    torch.testing.assert_close(mapped, function(point, *parameters))


SETS = (
    *("nonnegative", "box", "simplex", "l2 ball", "l1 ball", "hyperplane", "half-space", "affine set"),
    *("second-order cone", "semidefinite cone"),
)


def feasible_points(name: str) -> torch.Tensor:
    """Points of each set, a hundred at random, of the shape (100, 4, n): to compare the projection with."""
    if name == "nonnegative":
        return randn(100, 4, SIZE).abs()
    if name == "box":
        lower, upper = OPERATORS[name][2]
        return lower + (upper - lower) * torch.rand(100, 4, SIZE, generator=torch.Generator().manual_seed(0)).double()
    if name == "simplex":
        return TOTALS[:, None] * torch.softmax(2 * randn(100, 4, SIZE), -1)
    if name == "l2 ball":
        points = randn(100, 4, SIZE)
        return TOTALS[:, None] * points / points.norm(dim=-1, keepdim=True)
    if name == "l1 ball":
        points = randn(100, 4, SIZE)
        return TOTALS[:, None] * points / points.abs().sum(-1, keepdim=True)
    if name in ("hyperplane", "half-space"):
        points = randn(100, 4, SIZE)
        offset = OPERATORS[name][2][1]
        along = (offset - points @ NORMAL) / NORMAL.square().sum()
        return points + (along if name == "hyperplane" else along.clamp(max=0)).unsqueeze(-1) * NORMAL
    if name == "affine set":
        offset = OPERATORS[name][2][1]
        base = torch.linalg.lstsq(MATRIX, offset).solution
        return base + randn(100, 4, SIZE) @ (torch.eye(SIZE) - torch.linalg.pinv(MATRIX) @ MATRIX)
    if name == "second-order cone":
        points = randn(100, 4, SIZE)
        return torch.cat((points.norm(dim=-1, keepdim=True) * (1 + randn(100, 4, 1).abs()), points), -1)
    points = randn(100, 2, 4, 4)
    return points @ points.mT


@pytest.mark.parametrize("name", SETS)
def test_the_projection_makes_an_obtuse_angle_with_every_point_of_the_set(name):
    """⟨x − Px, c − Px⟩ ≤ 0 for all c of the set, and P Px = Px: what defines the projection onto a convex set."""
    function, point, parameters = OPERATORS[name]
    point = symmetric(point) if name == "semidefinite cone" else point
    projected = function(point, *parameters)
    axes = (-2, -1) if name == "semidefinite cone" else (-1,)
    angles = ((point - projected) * (feasible_points(name) - projected)).sum(axes)
    assert angles.max() <= 1e-10
    assert (point - projected).abs().max() > 0.1
    if name != "semidefinite cone":  # a projected matrix is singular: its own projection is exact to rounding
        torch.testing.assert_close(function(projected, *parameters), projected)


PENALTIES = {
    "soft threshold": lambda u, w: w * u.abs().sum(-1),
    "group soft threshold": lambda u, w: w * u.norm(dim=-1),
    "elastic net": lambda u, l1, l2: (l1 * u.abs() + 0.5 * l2 * u.square()).sum(-1),
    "squared norm": lambda u, w: (0.5 * w * u.square()).sum(-1),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_proximal_operator_minimises_its_objective(name):
    function, point, parameters = OPERATORS[name]
    found = function(point, *parameters)

    def objective(u):
        return 0.5 * (u - point).square().sum(-1) + PENALTIES[name](u, *parameters)

    for scale in (1e-4, 1e-1, 1.0):
        assert (objective(found) <= objective(found + scale * randn(200, 4, SIZE)) + 1e-12).all()


def test_the_entropic_projection_minimises_the_entropy_less_the_inner_product():
    found = project_simplex_entropic(POINTS, TOTALS)

    def objective(p):
        return (p * p.log() - p * POINTS).sum(-1)

    others = TOTALS[:, None] * torch.softmax(POINTS + 0.3 * randn(200, 4, SIZE), -1)
    assert (objective(found) <= objective(others) + 1e-12).all()


def test_a_semidefinite_projection_has_derivatives_where_eigenvalues_meet():
    """The eigenvectors of repeated eigenvalues have none, and derivatives through them are not finite."""
    vectors = torch.linalg.qr(randn(4, 4))[0]
    x = (vectors * torch.tensor([2.0, 2.0, -1.0, -1.0], dtype=torch.float64)) @ vectors.T
    x.requires_grad_()
    assert gradcheck(project_positive_semidefinite, (x,), check_forward_ad=True)
    assert gradgradcheck(project_positive_semidefinite, (x,))
    second = torch.func.jacfwd(torch.func.jacrev(project_positive_semidefinite))(x)
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("function", [project_l2_ball, group_soft_threshold])
def test_zero_has_a_finite_derivative(function):
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x, 0.5).sum(), x)
    assert torch.isfinite(slope).all()


def test_ties_share_the_simplex():
    x = torch.tensor([1.0, 1.0, 1.0, -5.0], dtype=torch.float64)
    jacobian = torch.func.jacrev(project_simplex)(x)
    active = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(jacobian, torch.diag(active) - torch.outer(active, active) / 3)


def test_a_cone_of_one_entry_is_refused():
    with pytest.raises(ValueError, match="at least 2 entries, not 1"):
        project_second_order_cone(torch.ones(3, 1))


def test_dependent_rows_of_an_affine_set_change_nothing():
    offset = randn(2, seed=7)
    twice = project_affine_set(POINTS, torch.cat((MATRIX, 3 * MATRIX)), torch.cat((offset, 3 * offset)))
    torch.testing.assert_close(twice, project_affine_set(POINTS, MATRIX, offset))
