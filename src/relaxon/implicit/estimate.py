"""Estimates of a derivative's error from the residuals of the root and of the linear system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.jacobian import StateJacobian
from relaxon.implicit.systems import SystemSolution, is_dense, solve_system


def estimate_error(
    here: StateJacobian, solution: SystemSolution, right: Tensor, transposed: bool, motion: Mapping[int, Tensor]
) -> float:
    """Return the estimated norm of a derivative's error over the norm of the derivative.

    The derivative is compared with that at `x + δ` for the same linear solution u. Where factors are at hand, or the
    options ask for it, δ is the Newton step `−J⁻¹F` and the change of u comes from another solve: exact to first order.
    Otherwise both take `‖u‖/‖g‖` for `‖J⁻¹‖`, and a δ that x would hardly keep counts as none (`NO_STEP`).
    Of several right-hand sides the one with the largest u counts.

    `motion` is that of the tensors of θ, by index, of which `right` is the image in forward mode. Where it is not known
    (many tangents by vmap at one point, second derivatives), the estimate takes `right` for exact.
    """
    if here.options.error_estimate == "none" or not bool(torch.isfinite(solution.u).all()):
        return math.nan
    samples = here.packing.samples
    u = solution.u
    if len(right) > samples:
        largest = int(torch.linalg.vector_norm(u.reshape(-1, samples, u.shape[1]), dim=(1, 2)).argmax())
        part = slice(largest * samples, (largest + 1) * samples)
        u, right, motion = u[part], right[part], {}
    thorough = here.options.error_estimate == "first-order" or is_dense(here)
    if thorough:
        step = -solve_system(here, here.value, False).u
    else:
        gain = krylov.norms(u) / krylov.norms(right).clamp(min=torch.finfo(right.dtype).tiny)
        step = -torch.sign((u * right).sum(-1, keepdim=True)) * gain * here.value
    x = here.packing.pack([one.detach() for one in here.x])
    there = here
    if thorough or not bool((krylov.norms(step) <= NO_STEP * torch.finfo(x.dtype).eps * krylov.norms(x)).all()):
        there = StateJacobian(here.call, here.packing.unpack(x + step), here.theta)
    judge = _reverse_error if transposed else _forward_error
    return judge(here, there, u, right, motion, thorough)


NO_STEP = 64
"""Units of rounding of x up to which a step is none: there the derivative would differ by rounding alone."""


def _reverse_error(
    here: StateJacobian,
    there: StateJacobian,
    u: Tensor,
    right: Tensor,
    _motion: Mapping[int, Tensor],
    thorough: bool,
) -> float:
    """Return the estimate for `−Bᵀu` with `Jᵀu = right`."""
    _, slopes = here.joint_pull(u)
    image, moved = there.joint_pull(u)
    left = right - image  # the linear residual, and the change of Jᵀu
    changes = [b - a for a, b in zip(slopes, moved, strict=True)]
    if thorough:
        _, more = here.joint_pull(solve_system(here, left, True).u)
        return _ratio(_norm([c + m for c, m in zip(changes, more, strict=True)]), _norm(slopes))
    return _ratio(_norm(changes), _norm(slopes)) + _ratio(_norm([left]), _norm([right]))


def _forward_error(
    here: StateJacobian,
    there: StateJacobian,
    u: Tensor,
    right: Tensor,
    motion: Mapping[int, Tensor],
    thorough: bool,
) -> float:
    """Return the estimate for u with `J u = right`, where right is the image of `motion` if given."""
    tangents = []
    for index, one in zip(here.active, here.active_theta, strict=True):
        known = index in motion and motion[index].shape == one.shape
        tangents.append(-motion[index].detach() if known else torch.zeros_like(one))
    left = here.joint_push(u, tangents) - there.joint_push(u, tangents) + right - here.product(u, transposed=False)
    if thorough:
        return _ratio(_norm([solve_system(here, left, False).u]), _norm([u]))
    return _ratio(_norm([left]), _norm([right]))


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(one)) ** 2 for one in tensors))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else (math.inf if part > 0 else 0.0)
