"""Optimality conditions: the maps whose root or fixed point is the solution of an optimisation problem.

Each function here takes the parts of a problem and returns a function `F(x, *theta)` with `F(x⋆(θ), θ) = 0`, or `T(x,
*theta)` with `T(x⋆(θ), θ) = x⋆(θ)`, for `custom_root`, `custom_fixed_point` and `implicit`. Everything that is given,
objective, constraints, projections, takes the variable first and after it all the parameters θ of the problem, in one
order; one that needs only some of them ignores the rest. Variables and parameters may be pytrees of tensors where a
docstring says so. Objectives return a scalar.

Source: M. Blondel et al., "Efficient and modular implicit differentiation", NeurIPS 2022, section 2.2 and table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jacrev
from torch.utils import _pytree as pytree

Objective = Callable[..., Tensor]
Map = Callable[..., Any]


def stationary(objective: Objective) -> Map:
    """Return `F(x, *θ) = ∇₁ objective(x, *θ)`, zero at an unconstrained minimum (Blondel et al. 2022, section 2.2).

    x may be a pytree; F has its structure.

    The least-squares mean of a, shrunk: x⋆ = Σa/(n + θ), dx⋆/dθ = −Σa/(n + θ)².

    >>> from relaxon.implicit import custom_root
    >>> a = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    >>> condition = stationary(lambda x, theta: (x - a).square().sum() + theta * x.square())
    >>> mean = custom_root(condition)(lambda init, theta: a.sum() / (3 + theta))
    >>> torch.func.grad(lambda theta: mean(None, theta))(torch.tensor(1.0, dtype=torch.float64)).item()
    -0.5625
    """
    return grad(objective)


def karush_kuhn_tucker(objective: Objective, equality: Map | None = None, inequality: Map | None = None) -> Map:
    """Return the optimality conditions of `min objective(z)` subject to `equality(z) = 0` and `inequality(z) ≤ 0`.

    The unknown is a tuple, `(z, ν)`, `(z, λ)` or `(z, ν, λ)`: the primal variable and the multipliers of the
    constraints that are given, each of its constraint's shape. F returns a tuple of the same shapes (Blondel et al.
    2022, section 2.2):

        ∇₁ objective + (∂₁ equality)ᵀ ν + (∂₁ inequality)ᵀ λ,    equality,    λ ∘ inequality

    The derivative exists where constraints that are active have multipliers that are not zero (strict
    complementarity) and independent gradients. F does not tell a multiplier of the wrong sign: the solver has to.

    Raises ValueError where neither constraint is given, and where the unknown has another number of parts.

    The nearest point to a on the sphere of radius r: z⋆ = r a/‖a‖, so dz⋆/dr = a/‖a‖; its multiplier is ‖a‖/r − 1.

    >>> from relaxon.implicit import custom_root
    >>> a = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> condition = karush_kuhn_tucker(
    ...     lambda z, r: 0.5 * (z - a).square().sum(), equality=lambda z, r: 0.5 * (z @ z - r * r))
    >>> nearest = custom_root(condition)(lambda init, r: (r * a / a.norm(), a.norm() / r - 1))
    >>> torch.func.jacrev(lambda r: nearest(None, r)[0])(torch.tensor(2.0, dtype=torch.float64))
    tensor([0.6000, 0.8000], dtype=torch.float64)
    """
    if equality is None and inequality is None:
        raise ValueError("equality and inequality are both None: with no constraint, use stationary(objective)")
    given = ((equality, False), (inequality, True))
    constraints = [(constraint, complementary) for constraint, complementary in given if constraint is not None]
    names = ["z", *("λ" if complementary else "ν" for _, complementary in constraints)]

    def conditions(x: tuple[Any, ...], *theta: Any) -> tuple[Any, ...]:
        if not isinstance(x, (tuple, list)) or len(x) != len(names):
            found = f"{len(x)} parts" if isinstance(x, (tuple, list)) else type(x).__name__
            raise ValueError(f"x must be the tuple ({', '.join(names)}), not {found}")
        z, multipliers = x[0], x[1:]

        def lagrangian(z: Any) -> tuple[Tensor, list[Any]]:
            values = [constraint(z, *theta) for constraint, _ in constraints]
            products = pytree.tree_map(lambda m, v: (m * v).sum(), list(multipliers), values)
            return objective(z, *theta) + sum(pytree.tree_leaves(products)), values

        force, values = grad(lagrangian, has_aux=True)(z)
        parts = zip(constraints, multipliers, values, strict=True)
        return (force, *(pytree.tree_map(torch.mul, m, v) if slack else v for (_, slack), m, v in parts))

    return conditions


def quadratic_program(equality: bool = True, inequality: bool = True) -> Map:
    """Return the optimality conditions of `min ½ zᵀ Q z + cᵀ z` subject to `E z = d` and `M z ≤ h`.

    F takes the unknown `(z, ν, λ)` and the parameters `Q, c, E, d, M, h` in this order; without `equality` there are
    no ν, E, d, without `inequality` no λ, M, h. Q is (n, n), of which the symmetric part counts, E is (p, n) and M (q,
    n). It is `karush_kuhn_tucker` of these functions (Blondel et al. 2022, section 2.2).

    The nearest point to −c on the half-space z₁ + z₂ ≤ h, where the constraint is active: dz⋆/dh = (½, ½).

    >>> from relaxon.implicit import custom_root
    >>> eye, row = torch.eye(2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    >>> c = torch.tensor([-1.0, -3.0], dtype=torch.float64)
    >>> def solve(init, q, c, m, h):
    ...     multiplier = (-c.sum() - h) / 2
    ...     return -c - multiplier, multiplier
    >>> nearest = custom_root(quadratic_program(equality=False))(solve)
    >>> torch.func.jacrev(lambda h: nearest(None, eye, c, row, h)[0])(torch.tensor([2.0], dtype=torch.float64))
    tensor([[0.5000],
            [0.5000]], dtype=torch.float64)
    """
    if not equality and not inequality:
        raise ValueError("equality and inequality are both False: with no constraint, use stationary(objective)")

    def objective(z: Tensor, q: Tensor, c: Tensor, *_: Tensor) -> Tensor:
        return 0.5 * z @ (q @ z) + c @ z

    def affine(position: int) -> Map:
        return lambda z, *theta: theta[position] @ z - theta[position + 1]

    return karush_kuhn_tucker(
        objective, affine(2) if equality else None, affine(4 if equality else 2) if inequality else None
    )


def proximal_gradient(objective: Objective, proximal: Map, step: float = 1.0) -> Map:
    """Return the proximal gradient step `T(x, *θ) = prox(x − step · ∇₁ objective(x, *θ), step, *θ)`.

    Its fixed point is the minimum of `objective + g` where `proximal(y, step, *θ)` is the proximal operator of
    `step · g(·, θ)` (Blondel et al. 2022, section 2.2). The solution and its derivative do not depend on `step`; the
    conditioning of the adjoint system does, and a step of the order of 1/L (L the Lipschitz constant of the gradient)
    serves. x may be a pytree, if `proximal` takes one.

    The lasso with orthonormal features is soft thresholding: dx⋆/dλ = −sign(x⋆).

    >>> from relaxon.implicit import custom_fixed_point, soft_threshold
    >>> a = torch.tensor([2.0, 0.3, -1.5], dtype=torch.float64)
    >>> condition = proximal_gradient(
    ...     lambda x, weight: 0.5 * (x - a).square().sum(),
    ...     lambda y, step, weight: soft_threshold(y, step * weight), step=0.5)
    >>> lasso = custom_fixed_point(condition)(lambda init, weight: soft_threshold(a, weight))
    >>> torch.func.jacrev(lambda weight: lasso(None, weight))(torch.tensor(0.5, dtype=torch.float64)).tolist()
    [-1.0, -0.0, 1.0]
    """
    _need_positive(step)

    def fixed_point(x: Any, *theta: Any) -> Any:
        return proximal(_descend(x, grad(objective)(x, *theta), step), step, *theta)

    return fixed_point


def projected_gradient(objective: Objective, projection: Map, step: float = 1.0) -> Map:
    """Return the projected gradient step `T(x, *θ) = projection(x − step · ∇₁ objective(x, *θ), *θ)`.

    Its fixed point is the minimum of `objective` over the convex set that `projection(y, *θ)` projects onto
    (Blondel et al. 2022, section 2.2). x may be a pytree, if `projection` takes one; `step` as in `proximal_gradient`.

    The nearest point of the simplex: the derivative on its support of k entries is I − 1/k, zero elsewhere.

    >>> from relaxon.implicit import custom_fixed_point, project_simplex
    >>> condition = projected_gradient(lambda x, a: 0.5 * (x - a).square().sum(), lambda y, a: project_simplex(y), 0.5)
    >>> nearest = custom_fixed_point(condition)(lambda init, a: project_simplex(a))
    >>> torch.func.jacrev(lambda a: nearest(None, a))(torch.tensor([0.9, 0.5, -2.0], dtype=torch.float64)).tolist()
    [[0.5, -0.5, -0.0], [-0.5, 0.5, -0.0], [-0.0, -0.0, -0.0]]
    """
    return proximal_gradient(objective, lambda y, _, *theta: projection(y, *theta), step)


def mirror_descent(objective: Objective, projection: Map, mirror: Map, step: float = 1.0) -> Map:
    """Return the mirror descent step `T(x, *θ) = projection(mirror(x) − step · ∇₁ objective(x, *θ), *θ)`.

    `mirror` is ∇φ of a strictly convex φ and `projection(y, *θ)` the point `argmin_{x ∈ C} φ(x) − ⟨x, y⟩` (Blondel et
    al. 2022, section 2.2). On the simplex, `mirror=torch.log` (up to a constant, which the projection does not see)
    with `project_simplex_entropic`: then the solution must have no entry of zero, where the logarithm has no
    derivative.

    With a linear objective and the entropy, x⋆ = softmax(−c): its derivative is −(diag(x⋆) − x⋆ x⋆ᵀ).

    >>> from relaxon.implicit import custom_fixed_point, project_simplex_entropic
    >>> condition = mirror_descent(
    ...     lambda x, c: c @ x + (x * x.log()).sum(), lambda y, c: project_simplex_entropic(y), torch.log, 0.5)
    >>> smallest = custom_fixed_point(condition)(lambda init, c: torch.softmax(-c, 0))
    >>> torch.func.jacrev(lambda c: smallest(None, c))(torch.zeros(2, dtype=torch.float64))
    tensor([[-0.2500,  0.2500],
            [ 0.2500, -0.2500]], dtype=torch.float64)
    """
    _need_positive(step)

    def fixed_point(x: Any, *theta: Any) -> Any:
        return projection(_descend(mirror(x), grad(objective)(x, *theta), step), *theta)

    return fixed_point


def block_proximal_gradient(
    objective: Objective, proximals: Sequence[Map], steps: Sequence[float] | float = 1.0
) -> Map:
    """Return the block step `Tⱼ(x, *θ) = proxⱼ(xⱼ − stepⱼ · [∇₁ objective(x, *θ)]ⱼ, stepⱼ, *θ)` of a tuple x of blocks.

    Each block has an operator and a step of its own (Blondel et al. 2022, section 2.2): the condition of block
    coordinate descent. A block without a regulariser takes `lambda y, step, *theta: y`.

    Raises ValueError where the numbers of blocks, operators and steps differ.

    Two coupled blocks, `½(x − a)² + ½y² + k x y` with x ≥ 0: x⋆ = a/(1 − k²), y⋆ = −k x⋆.

    >>> from relaxon.implicit import custom_fixed_point, project_nonnegative
    >>> def objective(z, a, k):
    ...     return 0.5 * (z[0] - a).square() + 0.5 * z[1].square() + k * z[0] * z[1]
    >>> condition = block_proximal_gradient(
    ...     objective, [lambda y, step, *theta: project_nonnegative(y), lambda y, step, *theta: y], 0.5)
    >>> solve = custom_fixed_point(condition)(lambda init, a, k: (a / (1 - k**2), -k * a / (1 - k**2)))
    >>> a, k = (torch.tensor(value, dtype=torch.float64) for value in (3.0, 0.5))
    >>> round(torch.func.grad(lambda a: solve(None, a, k)[1])(a).item(), 6)         # −k/(1 − k²)
    -0.666667
    """
    count = len(proximals)
    sizes = [float(steps)] * count if isinstance(steps, (int, float)) else [float(step) for step in steps]
    if len(sizes) != count:
        raise ValueError(f"steps must hold one step for each of the {count} operators, not {len(sizes)}")
    for size in sizes:
        _need_positive(size)

    def fixed_point(x: Any, *theta: Any) -> tuple[Any, ...]:
        if not isinstance(x, (tuple, list)) or len(x) != count:
            found = f"{len(x)} blocks" if isinstance(x, (tuple, list)) else type(x).__name__
            raise ValueError(f"x must be a tuple of {count} blocks, one for each operator, not {found}")
        slopes = grad(objective)(tuple(x), *theta)
        blocks = zip(x, slopes, proximals, sizes, strict=True)
        return tuple(prox(_descend(part, slope, size), size, *theta) for part, slope, prox, size in blocks)

    return fixed_point


def newton(residual: Map, step: float = 1.0) -> Map:
    """Return the Newton step `T(x, *θ) = x − step · [∂₁ residual(x, *θ)]⁻¹ residual(x, *θ)`.

    Its fixed points are the roots of `residual`, which takes and returns a tensor of one shape (Blondel et al. 2022,
    section 2.2). The Jacobian is formed and factored, n² numbers for n unknowns. At a root `∂₁T = (1 − step) I`, so
    with `step = 1` the adjoint system is the identity, and the derivative holds to the order of the residual.

    A square root: dx⋆/dθ = 1/(2 x⋆).

    >>> from relaxon.implicit import custom_fixed_point
    >>> root = custom_fixed_point(newton(lambda x, theta: x * x - theta))(lambda init, theta: theta.sqrt())
    >>> torch.func.grad(lambda theta: root(None, theta))(torch.tensor(4.0, dtype=torch.float64)).item()
    0.25
    """
    _need_positive(step)

    def fixed_point(x: Tensor, *theta: Any) -> Tensor:
        value = residual(x, *theta)
        if value.shape != x.shape:
            expected, found = tuple(x.shape), tuple(value.shape)
            raise ValueError(f"residual must return x's shape {expected}, an equation for each unknown, not {found}")
        jacobian = jacrev(lambda x: residual(x, *theta))(x).reshape(x.numel(), x.numel())
        correction: Tensor = torch.linalg.solve(jacobian, value.reshape(-1))
        return x - step * correction.reshape(x.shape)

    return fixed_point


def _descend(x: Any, slope: Any, step: float) -> Any:
    return pytree.tree_map(lambda value, direction: value - step * direction, x, slope)


def _need_positive(step: float) -> None:
    if not 0 < step < float("inf"):
        raise ValueError(f"step must be a positive finite number, not {step}")
