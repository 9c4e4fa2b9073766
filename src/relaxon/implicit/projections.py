"""Euclidean projections onto convex sets, as torch functions that differentiate to any order.

Every function projects vectors along the last axis and takes any number of axes before it, unless it says otherwise. A
projection is differentiable almost everywhere; where it has a kink, the derivative is that of one of the pieces which
meet there. What depends on the values of a tensor (which entries are active) is chosen by masks, so the functions go
through `torch.func.vmap`, `grad` and `jvp`.

Formulas: N. Parikh and S. Boyd, "Proximal algorithms", Foundations and Trends in Optimization 1(3), 2014, chapter 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relaxon.implicit.matrix_absolute import absolute_matrix


def project_nonnegative(x: Tensor) -> Tensor:
    """Project onto the vectors without a negative entry, `max(x, 0)`; a tensor of any shape.

    >>> project_nonnegative(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return torch.relu(x)


def project_box(x: Tensor, lower: Tensor | float, upper: Tensor | float) -> Tensor:
    """Project onto the box `lower ≤ x ≤ upper`; bounds that broadcast with x, differentiable too.

    >>> project_box(torch.tensor([-1.0, 0.5, 2.0]), 0.0, 1.0)
    tensor([0.0000, 0.5000, 1.0000])
    """
    return torch.minimum(torch.maximum(x, _like(lower, x)), _like(upper, x))


def project_simplex(x: Tensor, total: Tensor | float = 1.0) -> Tensor:
    """Project each vector `x[..., :]` onto the simplex `{p ≥ 0, Σ p = total}`, total > 0.

    The result is `max(x − τ, 0)` with the threshold τ that gives the sum; the derivative is that of the active
    entries: `diag(a) − a aᵀ / Σ a`, a the indicator of `p > 0`. `total` is a number or a tensor of the shape of the
    leading axes.

    Source: J. Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions", ICML 2008,
    figure 1.

    >>> project_simplex(torch.tensor([0.5, 0.75, -2.0]))
    tensor([0.3750, 0.6250, 0.0000])
    """
    sums = _like(total, x).unsqueeze(-1)
    ordered = x.detach().sort(dim=-1, descending=True).values
    counts = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    held = ordered * counts > ordered.cumsum(-1) - sums.detach()
    active = held.sum(-1, keepdim=True)
    smallest = torch.gather(ordered, -1, active.clamp(min=1) - 1)
    mask = (x.detach() >= smallest).to(x.dtype)
    threshold = ((x * mask).sum(-1, keepdim=True) - sums) / mask.sum(-1, keepdim=True)
    return torch.relu(x - threshold)


def project_simplex_entropic(x: Tensor, total: Tensor | float = 1.0) -> Tensor:
    """Return the point of the simplex nearest in relative entropy: `total · softmax(x)` along the last axis.

    It is `argmin_p φ(p) − ⟨p, x⟩` over the simplex for `φ(p) = Σ p log p`, the projection that mirror descent uses
    (Blondel et al. 2022, section 2.2).

    >>> project_simplex_entropic(torch.zeros(4))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return _like(total, x).unsqueeze(-1) * torch.softmax(x, -1)


def project_l2_ball(x: Tensor, radius: Tensor | float = 1.0) -> Tensor:
    """Project each vector onto the ball `‖x‖₂ ≤ radius`; radius > 0, a number or of the leading axes' shape.

    >>> project_l2_ball(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    limit = _like(radius, x).unsqueeze(-1)
    square = (x * x).sum(-1, keepdim=True)
    outside = square.detach() > limit.detach() ** 2
    # The root of a square that is not used would have an infinite derivative at zero.
    norm = torch.where(outside, square, torch.ones_like(square)).sqrt()
    return torch.where(outside, x * (limit / norm), x)


def project_l1_ball(x: Tensor, radius: Tensor | float = 1.0) -> Tensor:
    """Project each vector onto the ball `‖x‖₁ ≤ radius`; radius > 0, a number or of the leading axes' shape.

    >>> project_l1_ball(torch.tensor([2.0, -1.5]))
    tensor([ 0.7500, -0.2500])
    """
    limit = _like(radius, x)
    signs = torch.sign(x.detach())
    outside = x.detach().abs().sum(-1) > limit.detach()
    return torch.where(outside.unsqueeze(-1), signs * project_simplex(signs * x, limit), x)


def project_hyperplane(x: Tensor, normal: Tensor, offset: Tensor | float) -> Tensor:
    """Project each vector onto the hyperplane `⟨normal, x⟩ = offset`; `normal` of the size of the last axis, not zero.

    >>> project_hyperplane(torch.zeros(2), torch.tensor([1.0, 1.0]), 2.0)
    tensor([1., 1.])
    """
    excess = ((x * normal).sum(-1) - offset) / (normal * normal).sum(-1)
    return x - excess.unsqueeze(-1) * normal


def project_halfspace(x: Tensor, normal: Tensor, offset: Tensor | float) -> Tensor:
    """Project each vector onto the half-space `⟨normal, x⟩ ≤ offset`; `normal` of the size of the last axis, not zero.

    >>> project_halfspace(torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.tensor([1.0, 1.0]), 2.0)
    tensor([[0., 0.],
            [1., 1.]])
    """
    excess = torch.relu((x * normal).sum(-1) - offset) / (normal * normal).sum(-1)
    return x - excess.unsqueeze(-1) * normal


def project_affine_set(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Project each vector onto `{x : A x = b}`: `x − A⁺ (A x − b)`, A⁺ the pseudoinverse; A is (m, n), b is (m,).

    Rows of A may depend on each other; then derivatives in A are those of changes that leave its rank. Where `A x = b`
    has no solution, the set is that of its least squares.

    >>> project_affine_set(torch.zeros(2), torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([2.0, 4.0]))
    tensor([1.0000, 1.0000])
    """
    residual = torch.matmul(matrix, x.unsqueeze(-1)) - offset.unsqueeze(-1)
    correction: Tensor = torch.linalg.pinv(matrix) @ residual
    return x - correction.squeeze(-1)


def project_second_order_cone(x: Tensor) -> Tensor:
    """Project each vector `(t, v)` onto the cone `‖v‖₂ ≤ t`; t is the first entry of the last axis, of size 2 or more.

    `x` itself where it lies in the cone, zero where it lies in the polar cone `‖v‖ ≤ −t`, else
    `½ (1 + t/‖v‖) (‖v‖, v)`.

    >>> project_second_order_cone(torch.tensor([[0.0, 3.0, 4.0], [6.0, 3.0, 4.0], [-6.0, 3.0, 4.0]]))
    tensor([[2.5000, 1.5000, 2.0000],
            [6.0000, 3.0000, 4.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    if x.shape[-1] < 2:
        raise ValueError(f"x holds (t, v): its last axis must have at least 2 entries, not {x.shape[-1]}")
    t, v = x[..., :1], x[..., 1:]
    square = (v * v).sum(-1, keepdim=True)
    length = square.detach().sqrt()
    between = length > t.detach().abs()
    norm = torch.where(between, square, torch.ones_like(square)).sqrt()
    mixed = 0.5 * (1 + t / norm) * torch.cat((norm, v), -1)
    inside = (length <= t.detach()).expand(x.shape)
    return torch.where(between.expand(x.shape), mixed, torch.where(inside, x, torch.zeros_like(x)))


def project_positive_semidefinite(x: Tensor) -> Tensor:
    """Project each symmetric matrix `x[..., :, :]` onto the positive semidefinite ones: `½ (X + |X|)`.

    Only the symmetric part of x counts. Derivatives of any order are right at repeated eigenvalues, where those of an
    eigendecomposition are not; they need a matrix without the eigenvalue zero.

    >>> project_positive_semidefinite(torch.diag(torch.tensor([-1.0, 2.0])))
    tensor([[0., 0.],
            [0., 2.]])
    """
    symmetric = 0.5 * (x + x.mT)
    return 0.5 * (symmetric + absolute_matrix(symmetric))


def _like(value: Tensor | float, x: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=x.dtype, device=x.device)
