"""The catalogue of optimality conditions: each holds at its solution, and gives its derivatives of both orders."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from conditions_with_closed_forms import KNOWN, Known, half_squared_distance, randn, scalar, vector  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

from relaxon.implicit import (  # noqa: E402
    DerivativeError,
    DerivativeOutcome,
    ImplicitOptions,
    block_proximal_gradient,
    conic_residual,
    custom_fixed_point,
    custom_root,
    karush_kuhn_tucker,
    mirror_descent,
    newton,
    project_nonnegative,
    project_second_order_cone,
    projected_gradient,
    proximal_gradient,
    quadratic_program,
    read_cone_solution,
    self_dual_residual,
    stationary,
)

TIGHT = ImplicitOptions(method="direct", error_estimate="none")


def differentiated(known: Known):
    """The solution as a vector in θ, with the derivative of the condition: the solver itself has none."""
    wrap = custom_fixed_point if known.fixed_point else custom_root

    def solver(init, *theta):
        return pytree.tree_map(torch.Tensor.detach, known.solution(*(t.detach() for t in theta)))

    solve = wrap(known.condition, options=TIGHT)(solver)
    return lambda *theta: flat(solve(None, *theta))


def flat(x) -> torch.Tensor:
    return torch.cat([leaf.reshape(-1) for leaf in pytree.tree_leaves(x)])


@pytest.fixture(params=KNOWN)
def known(request) -> Known:
    return KNOWN[request.param]()


def test_the_condition_holds_at_the_solution_and_nowhere_near(known):
    solution = known.solution(*known.theta)
    elsewhere = pytree.tree_map(lambda leaf: leaf + 0.1, solution)
    for x, holds in ((solution, True), (elsewhere, False)):
        value = flat(known.condition(x, *known.theta))
        residual = (value - flat(x) if known.fixed_point else value).abs().max()
        assert (residual < 1e-13) == holds


def test_the_derivatives_pass_gradcheck_and_gradgradcheck(known):
    solve = differentiated(known)
    theta = tuple(value.clone().requires_grad_() for value in known.theta)
    assert gradcheck(solve, theta, check_forward_ad=True)
    assert gradgradcheck(solve, theta)


def test_the_jacobian_is_that_of_the_closed_form(known):
    positions = tuple(range(len(known.theta)))
    found = torch.func.jacrev(differentiated(known), positions)(*known.theta)
    exact = torch.func.jacrev(lambda *theta: flat(known.solution(*theta)), positions)(*known.theta)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_taylor_remainders_fall_with_the_second_and_the_third_power(known):
    solve = differentiated(known)
    direction = [0.1 * randn(*value.shape, seed=11 + i) for i, value in enumerate(known.theta)]
    weights = randn(len(solve(*known.theta)), seed=10)

    def along(h: torch.Tensor) -> torch.Tensor:
        return weights @ solve(*(value + h * step for value, step in zip(known.theta, direction, strict=True)))

    h = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = along(h)
    (first,) = torch.autograd.grad(value, h, create_graph=True)
    (second,) = torch.autograd.grad(first, h)
    sizes = [0.2, 0.1, 0.05]
    changes = [(along(scalar(size)) - value).item() for size in sizes]
    for order in (2, 3):
        expected = [size * first.item() + (order == 3) * 0.5 * size**2 * second.item() for size in sizes]
        remainders = vector(*(abs(change - guess) for change, guess in zip(changes, expected, strict=True)))
        assert remainders[-1] > 1e-12  # the solution is curved, or there would be nothing to see
        slope = (remainders[-2] / remainders[-1]).log2().item()
        assert slope == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("name", [name for name in KNOWN if KNOWN[name]().fixed_point])
def test_a_fixed_point_iteration_converges_from_near_by(name):
    """Its steps are those of a method, not only at rest in the same place."""
    known = KNOWN[name]()
    solution = known.solution(*known.theta)
    x = pytree.tree_map(lambda leaf: leaf + 0.05 * (leaf != 0), solution)
    for _ in range(200):
        x = known.condition(x, *known.theta)
    torch.testing.assert_close(flat(x), flat(solution), rtol=0, atol=1e-9)


@pytest.mark.parametrize("step", [0.1, 0.9])
def test_the_step_changes_neither_the_solution_nor_its_derivative(step):
    def condition(step):
        return projected_gradient(lambda x, a: 0.5 * (x - a).square().sum(), lambda y, a: project_nonnegative(y), step)

    a = vector(1.0, -2.0)
    known = Known(condition(step), True, lambda a: a.clamp(min=0), (a,))
    assert torch.equal(torch.func.jacrev(differentiated(known))(a), torch.diag(vector(1.0, 0.0)))


def test_a_stationary_point_may_be_a_pytree():
    def objective(x, a):
        return 0.5 * (x["left"] - a).square().sum() + 0.5 * (x["right"] - x["left"] * a).square().sum()

    known = Known(stationary(objective), False, lambda a: {"left": a, "right": a * a}, (vector(0.5, -1.0),))
    jacobian = torch.func.jacrev(differentiated(known))(*known.theta)
    torch.testing.assert_close(jacobian, torch.cat((torch.eye(2).double(), torch.diag(2 * known.theta[0]))))


def test_a_program_with_one_kind_of_constraint_takes_its_own_parameters():
    q, c = torch.eye(2, dtype=torch.float64), vector(-1.0, -3.0)
    rows, right = vector(1.0, 1.0).view(1, 2), vector(2.0)
    z, multiplier = vector(0.0, 2.0), vector(1.0)  # the projection of (1, 3) onto z₁ + z₂ = 2
    for equality in (True, False):
        condition = quadratic_program(equality=equality, inequality=not equality)
        values = condition((z, multiplier), q, c, rows, right)
        assert flat(values).abs().max() < 1e-15
        assert flat(condition((z + 1, multiplier), q, c, rows, right)).abs().max() > 0.5


def test_the_self_dual_residual_is_zero_along_the_whole_ray_and_its_last_entry_follows_from_the_others():
    known = KNOWN["linear program"]()
    u, v = known.solution(*known.theta)
    residual = self_dual_residual(project_nonnegative)
    root = torch.cat((u, v, torch.ones(1, dtype=torch.float64)))
    for scale in (0.5, 1.0, 7.0):
        assert residual(scale * root, *known.theta).abs().max() < 1e-13
    c, e, d = known.theta
    corner = torch.zeros(2, 2), torch.zeros(3, 3), torch.zeros(1, 1)
    rows = (corner[0], e.T, c[:, None]), (-e, corner[1], d[:, None]), (-c[None], -d[None], corner[2])
    q = torch.cat([torch.cat(row, 1) for row in rows])
    for point in (randn(6, seed=3), -randn(6, seed=3)):  # scales of both signs
        projected = torch.cat((point[:2], point[2:].clamp(min=0)))
        torch.testing.assert_close(residual(point, c, e, d), q @ projected - projected + point)
    value, projected = residual(point, *known.theta), torch.cat((point[:2], point[2:].clamp(min=0)))
    assert abs(float(projected @ value)) < 1e-13  # ⟨Πx, F(x)⟩ = 0 anywhere


def test_a_cone_solution_is_feasible_complementary_and_without_a_gap():
    known = KNOWN["disc"]()
    c, r = known.theta
    z, s, y = read_cone_solution(*known.solution(c, r), project_second_order_cone)
    torch.testing.assert_close(s, torch.cat((r.view(1), z)))
    assert abs(float(s @ y)) < 1e-14
    torch.testing.assert_close(c @ z, -r * y[0])


REFUSALS = {
    "no constraint": (lambda: karush_kuhn_tucker(torch.sum), "equality and inequality are both None"),
    "an unconstrained program": (lambda: quadratic_program(False, False), "equality and inequality are both False"),
    "a step of zero": (lambda: proximal_gradient(torch.sum, lambda y, step: y, 0.0), "step must be a positive finite"),
    "an infinite step": (
        lambda: mirror_descent(torch.sum, torch.exp, torch.log, float("inf")),
        "finite number, not inf",
    ),
    "a negative Newton step": (lambda: newton(torch.sin, -1.0), "step must be a positive finite number, not -1.0"),
    "steps of another number": (
        lambda: block_proximal_gradient(torch.sum, [torch.relu], [0.1, 0.2]),
        "one step for each of the 1 operators, not 2",
    ),
    "blocks of another number": (
        lambda: block_proximal_gradient(torch.sum, [torch.relu])((torch.ones(1), torch.ones(1))),
        "a tuple of 1 blocks, one for each operator, not 2 blocks",
    ),
    "multipliers left out": (
        lambda: karush_kuhn_tucker(torch.sum, torch.sum)(torch.ones(2)),
        "x must be the tuple (z, ν), not Tensor",
    ),
    "a residual of another shape": (
        lambda: newton(lambda x: x[:1])(torch.ones(2)),
        "x's shape (2,), an equation for each unknown, not (1,)",
    ),
    "a cone program of odd shapes": (
        lambda: conic_residual(torch.relu)(
            (torch.ones(2), torch.ones(3)), torch.ones(2), torch.ones(2, 3), torch.ones(3)
        ),
        "(p,), (m, p), (m,), not (2,), (2, 3), (3,)",
    ),
    "a point of the embedding without its scale": (
        lambda: self_dual_residual(torch.relu)(torch.ones(5), torch.ones(2), torch.ones(3, 2), torch.ones(3)),
        "x must be (u, v, w) of shape (6,), not (5,)",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_mistake_is_refused_by_the_name_of_the_argument(name):
    call, message = REFUSALS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_constraint_that_is_active_with_a_multiplier_of_zero_has_no_derivative():
    """The nearest point of z ≤ r to a = r: it moves with a to one side only."""
    condition = karush_kuhn_tucker(half_squared_distance, inequality=lambda z, a, r: z - r)
    known = Known(condition, False, lambda a, r: (a, 0 * a), (vector(1.0), vector(1.0)))
    with pytest.raises(DerivativeError) as refused:
        torch.func.jacrev(differentiated(known))(*known.theta)
    assert refused.value.verdict.outcome is DerivativeOutcome.SINGULAR
