"""The residual map of a cone program: `min cᵀ z` subject to `E z + s = d`, s in a closed convex cone K."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Projection = Callable[[Tensor], Tensor]


class ConeSolution(NamedTuple):
    """The solution of a cone program: z (p,), its slack s (m,) in K, and the multiplier y (m,) in the dual cone K*."""

    z: Tensor
    s: Tensor
    y: Tensor


def self_dual_residual(dual_projection: Projection) -> Callable[..., Tensor]:
    """Return the residual map of the homogeneous self-dual embedding, `F(x, c, E, d) = ((Q − I) Π + I) x`.

    x is `(u, v, w)` of p + m + 1 entries, `Π` projects onto `ℝᵖ × K* × ℝ₊` (`dual_projection` onto the dual cone K*),
    and `Q` is the skew-symmetric matrix `[[0, Eᵀ, c], [−E, 0, d], [−cᵀ, −dᵀ, 0]]` (E. Busseti, W. Moursi, S. Boyd,
    "Solution refinement at regular points of conic problems", 2019; Blondel et al. 2022, section 2.2). For use in
    solvers: F is homogeneous, so that ∂₁F is singular along x; `conic_residual` is the one to differentiate through.
    """

    def residual(x: Tensor, c: Tensor, e: Tensor, d: Tensor) -> Tensor:
        m, p = _sizes(c, e, d)
        if x.shape != (p + m + 1,):
            raise ValueError(f"x must be (u, v, w) of shape {(p + m + 1,)}, not {tuple(x.shape)}")
        u, v, w = x[:p], x[p : p + m], x[p + m :]
        y, tau = dual_projection(v), torch.relu(w)
        return torch.cat((e.mT @ y + c * tau, -(e @ u) + d * tau - y + v, -(c @ u) - (d @ y) - tau + w))

    return residual


def conic_residual(dual_projection: Projection) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the residual map of a cone program at scale one, `F((u, v), c, E, d)`, a tuple of shapes (p,) and (m,).

    It is the self-dual residual with `w = 1` without its last entry. That entry follows from the others: Q is
    skew-symmetric and `Πx ⊥ x − Πx`, so `⟨Πx, F(x)⟩ = 0`. What is left is a square system, regular where the solution
    is unique and strictly complementary. Its root gives `z = u`, `y = Π_{K*}(v)`, `s = y − v`: see
    `read_cone_solution`.

    `dual_projection` projects onto K*, the dual of the cone of s: `project_nonnegative`, `project_second_order_cone`
    and `project_positive_semidefinite` are those of self-dual cones; for equations (K = {0}) it is the identity.

    The least of ⟨c, z⟩ in the disc ‖z‖ ≤ r, as s = (r, z) in the second-order cone: z⋆ = −r c/‖c‖, y⋆ = (‖c‖, c).

    >>> from relaxon.implicit import custom_root, project_second_order_cone
    >>> e = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    >>> def solve(init, c, e, d):
    ...     z = -d[0] * c / c.norm()
    ...     return z, torch.cat((c.norm().view(1), c)) - torch.cat((d[:1], z))
    >>> disc = custom_root(conic_residual(project_second_order_cone))(solve)
    >>> c = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> d = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    >>> torch.func.jacrev(lambda d: disc(None, c, e, d)[0])(d)[:, 0]
    tensor([-0.6000, -0.8000], dtype=torch.float64)
    """
    embedded = self_dual_residual(dual_projection)

    def residual(x: Any, c: Tensor, e: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(x, (tuple, list)) or len(x) != 2:
            raise ValueError(f"x must be the tuple (u, v), not {type(x).__name__} of {len(x)} parts")
        m, p = _sizes(c, e, d)
        value = embedded(torch.cat((x[0], x[1], x[0].new_ones(1))), c, e, d)
        return value[:p], value[p : p + m]

    return residual


def read_cone_solution(u: Tensor, v: Tensor, dual_projection: Projection) -> ConeSolution:
    """Return z, s and y of a root `(u, v)` of `conic_residual`: `z = u`, `y = Π_{K*}(v)`, `s = y − v`.

    >>> read_cone_solution(torch.tensor([3.0]), torch.tensor([2.0, -1.0]), torch.relu)
    ConeSolution(z=tensor([3.]), s=tensor([0., 1.]), y=tensor([2., 0.]))
    """
    y = dual_projection(v)
    return ConeSolution(u, y - v, y)


def _sizes(c: Tensor, e: Tensor, d: Tensor) -> tuple[int, int]:
    if e.ndim != 2 or c.shape != (e.shape[1],) or d.shape != (e.shape[0],):
        raise ValueError(
            f"c, E, d must have the shapes (p,), (m, p), (m,), not {tuple(c.shape)}, {tuple(e.shape)}, {tuple(d.shape)}"
        )
    return int(e.shape[0]), int(e.shape[1])
