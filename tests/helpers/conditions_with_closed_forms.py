"""Problems for every entry of the catalogue whose solution, and with it every derivative, is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from relaxon.implicit import (
    block_proximal_gradient,
    conic_residual,
    karush_kuhn_tucker,
    mirror_descent,
    newton,
    project_nonnegative,
    project_positive_semidefinite,
    project_second_order_cone,
    project_simplex,
    project_simplex_entropic,
    projected_gradient,
    proximal_gradient,
    quadratic_program,
    soft_threshold,
    stationary,
)

FLOAT = torch.float64


class Known(NamedTuple):
    """A condition, whether its solution is a fixed point or a root, the solution as a function of θ, and a θ."""

    condition: Callable[..., Any]
    fixed_point: bool
    solution: Callable[..., Any]
    theta: tuple[Tensor, ...]


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=FLOAT)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=FLOAT)


def ridge() -> Known:
    """½ ‖A x − b‖² + ½ κ ‖x‖²."""
    a = randn(6, 3, seed=0)
    return Known(
        stationary(lambda x, b, kappa: 0.5 * (a @ x - b).square().sum() + 0.5 * kappa * x.square().sum()),
        False,
        lambda b, kappa: torch.linalg.solve(a.T @ a + kappa * torch.eye(3, dtype=FLOAT), a.T @ b),
        (randn(6, seed=1), scalar(0.7)),
    )


def half_squared_distance(z: Tensor, a: Tensor, *_: Tensor) -> Tensor:
    return 0.5 * (z - a).square().sum()


def sphere() -> Known:
    """The nearest point of the sphere of radius r: `r a/‖a‖`, with the multiplier `‖a‖/r − 1`."""
    return Known(
        karush_kuhn_tucker(half_squared_distance, equality=lambda z, a, r: 0.5 * (z @ z - r * r)),
        False,
        lambda a, r: (r * a / a.norm(), a.norm() / r - 1),
        (vector(1.0, -2.0, 0.5), scalar(1.3)),
    )


def ball() -> Known:
    """The same point with the ball as a constraint, and a second one that is not active."""
    return Known(
        karush_kuhn_tucker(
            half_squared_distance, inequality=lambda z, a, r: torch.stack((0.5 * (z @ z - r * r), z[0] - 3 * r))
        ),
        False,
        lambda a, r: (r * a / a.norm(), torch.stack((a.norm() / r - 1, 0 * r))),
        (vector(1.0, -2.0, 0.5), scalar(1.3)),
    )


def ball_on_plane() -> Known:
    """The nearest point with `Σ z = s` and `‖z‖ ≤ r`."""

    def solution(a: Tensor, s: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, centred = a.mean(), a - a.mean()
        rho = (r * r - s * s / len(a)).sqrt()
        multiplier = centred.norm() / rho - 1
        z = s / len(a) + rho * centred / centred.norm()
        return z, mean - (1 + multiplier) * s / len(a), multiplier

    return Known(
        karush_kuhn_tucker(
            half_squared_distance, lambda z, a, s, r: z.sum() - s, lambda z, a, s, r: 0.5 * (z @ z - r * r)
        ),
        False,
        solution,
        (vector(1.0, -2.0, 0.5, 1.5), scalar(0.8), scalar(1.1)),
    )


def program() -> Known:
    """A quadratic program whose first inequality is active, and whose second is not."""

    def solution(q: Tensor, c: Tensor, e: Tensor, d: Tensor, m: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        rows = torch.cat((e, m[:1]))
        zeros = torch.zeros(2, 2, dtype=FLOAT)
        matrix = torch.cat((torch.cat((0.5 * (q + q.T), rows.T), 1), torch.cat((rows, zeros), 1)))
        found = torch.linalg.solve(matrix, torch.cat((-c, d, h[:1])))
        return found[:3], found[3:4], torch.cat((found[4:], 0 * h[1:]))

    root = randn(3, 3, seed=2)
    theta = (root @ root.T + torch.eye(3, dtype=FLOAT), randn(3, seed=3), randn(1, 3, seed=4), vector(0.3))
    return Known(
        quadratic_program(),
        False,
        solution,
        (*theta, vector(1.0, 0.4, -0.2, 0.1, 1.0, 0.3).view(2, 3), vector(-1.5, 9)),
    )


def weighted_distance(x: Tensor, a: Tensor, w: Tensor, *_: Tensor) -> Tensor:
    return 0.5 * (w * (x - a).square()).sum()


def weighted_simplex() -> Known:
    """½ Σ wᵢ (xᵢ − aᵢ)² on the simplex: `xᵢ = aᵢ − τ/wᵢ` on its support, here the first two of three."""

    def solution(a: Tensor, w: Tensor, total: Tensor) -> Tensor:
        threshold = (a[:2].sum() - total) / (1 / w[:2]).sum()
        return torch.cat((a[:2] - threshold / w[:2], 0 * a[2:]))

    return Known(
        projected_gradient(weighted_distance, lambda y, a, w, total: project_simplex(y, total), 0.3),
        True,
        solution,
        (vector(0.9, 0.6, -0.8), vector(1.0, 2.0, 1.5), scalar(1.2)),
    )


def weighted_lasso() -> Known:
    """½ Σ wᵢ (xᵢ − aᵢ)² + λ ‖x‖₁: soft thresholding of a at λ/w."""
    return Known(
        proximal_gradient(weighted_distance, lambda y, step, a, w, weight: soft_threshold(y, step * weight), 0.4),
        True,
        lambda a, w, weight: soft_threshold(a, weight / w),
        (vector(0.9, -1.6, 0.1), vector(1.0, 2.0, 1.5), scalar(0.5)),
    )


def entropy() -> Known:
    """⟨c, x⟩ + τ Σ x log x on the simplex: softmax(−c/τ)."""
    return Known(
        mirror_descent(
            lambda x, c, tau: c @ x + tau * (x * x.log()).sum(),
            lambda y, c, tau: project_simplex_entropic(y),
            torch.log,
            0.5,
        ),
        True,
        lambda c, tau: torch.softmax(-c / tau, -1),
        (vector(0.3, -0.4, 0.9), scalar(0.7)),
    )


def two_blocks() -> Known:
    """½ ‖x − a‖² + ½ ‖y − b‖² + k ⟨x, y⟩, x ≥ 0, with λ ‖y‖₁; here x > 0 and y has the signs of b."""

    def solution(a: Tensor, b: Tensor, k: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        pulled = b - weight * torch.sign(b)
        return (a - k * pulled) / (1 - k * k), (pulled - k * a) / (1 - k * k)

    return Known(
        block_proximal_gradient(
            lambda z, a, b, k, weight: (
                0.5 * (z[0] - a).square().sum() + 0.5 * (z[1] - b).square().sum() + k * z[0] @ z[1]
            ),
            (
                lambda y, step, *theta: project_nonnegative(y),
                lambda y, step, a, b, k, weight: soft_threshold(y, step * weight),
            ),
            (0.5, 0.7),
        ),
        True,
        solution,
        (vector(2.0, 1.5), vector(1.4, -1.8), scalar(0.3), scalar(0.2)),
    )


def cube_root() -> Known:
    """The root of x³ = θ, by Newton's step."""
    return Known(newton(lambda x, theta: x**3 - theta), True, lambda theta: theta ** (1 / 3), (vector(2.0, 5.0),))


def damped_cube_root() -> Known:
    """The same root with half of Newton's step."""
    return cube_root()._replace(condition=newton(lambda x, theta: x**3 - theta, 0.5))


def linear_program() -> Known:
    """A vertex: `z = E_B⁻¹ d_B` for the active rows B, here the first two of three."""

    def solution(c: Tensor, e: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve(e[:2], d[:2])
        return z, torch.cat((-torch.linalg.solve(e[:2].T, c), e[2:] @ z - d[2:]))

    return Known(
        conic_residual(project_nonnegative),
        False,
        solution,
        (vector(-1.0, -2.0), vector(1.0, 0.3, 0.2, 1.0, -1.0, -1.0).view(3, 2), vector(1.0, 2.0, 0.5)),
    )


def disc() -> Known:
    """min ⟨c, z⟩ with ‖z‖ ≤ r, a second-order cone: `z = −r c/‖c‖`, y = (‖c‖, c)."""
    matrix = torch.cat((torch.zeros(1, 2, dtype=FLOAT), -torch.eye(2, dtype=FLOAT)))
    residual = conic_residual(project_second_order_cone)

    def solution(c: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        z = -r * c / c.norm()
        return z, torch.cat((c.norm().view(1), c)) - torch.cat((r.view(1), z))

    return Known(
        lambda x, c, r: residual(x, c, matrix, torch.cat((r.view(1), 0 * c))),
        False,
        solution,
        (vector(0.6, -1.1), scalar(1.4)),
    )


def largest_eigenvalue() -> Known:
    """min t with t I − A positive semidefinite: the largest eigenvalue, whose gradient is u uᵀ."""
    identity = torch.eye(3, dtype=FLOAT)
    residual = conic_residual(lambda v: project_positive_semidefinite(v.view(3, 3)).reshape(-1))

    def symmetric(a: Tensor) -> Tensor:
        return 0.5 * (a + a.mT)

    def solution(a: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(symmetric(a))
        y = torch.outer(vectors[:, -1], vectors[:, -1])
        return values[-1:], (y - values[-1] * identity + symmetric(a)).reshape(-1)

    return Known(
        lambda x, a: residual(x, torch.ones(1, dtype=FLOAT), -identity.reshape(9, 1), -symmetric(a).reshape(-1)),
        False,
        solution,
        (vector(2.0, 0.3, -0.4, 0.3, 1.0, 0.2, -0.4, 0.2, -0.5).view(3, 3),),
    )


KNOWN = {
    make.__name__.replace("_", " "): make
    for make in (
        *(ridge, sphere, ball, ball_on_plane, program, weighted_simplex, weighted_lasso, entropy, two_blocks),
        *(cube_root, damped_cube_root, linear_program, disc, largest_eigenvalue),
    )
}
