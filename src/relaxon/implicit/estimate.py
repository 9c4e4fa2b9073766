"""Estimates of a derivative's error from the residuals of the root and of the linear system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.jacobian import StateJacobian
from relaxon.implicit.products import push
from relaxon.implicit.systems import SystemSolution, is_dense, solve_system


def estimate_error(
    jacobian: StateJacobian, solution: SystemSolution, right: Tensor, transposed: bool, motion: Mapping[int, Tensor]
) -> float:
    """Return the estimated norm of a derivative's error over the norm of the derivative.

    The derivative is compared with that at `x + δ` for the same linear solution u. Where factors are at hand, or the
    options ask for it, δ is the Newton step `−J⁻¹F` and the change of u comes from another solve: exact to first order.
    Otherwise both take `‖u‖/‖g‖` for `‖J⁻¹‖`. Of several right-hand sides the one with the largest u counts.

    `motion` is that of the tensors of θ, by index, of which `right` is the image in forward mode. Where it is not known
    (many tangents by vmap at one point, second derivatives), the estimate takes `right` for exact.
    """
    samples = jacobian.packing.samples
    if len(right) > samples:
        if jacobian.options.error_estimate == "none":
            return math.nan
        largest = int(solution.u.reshape(-1, samples, right.shape[1]).flatten(1).norm(dim=1).argmax())
        part = slice(largest * samples, (largest + 1) * samples)
        solution = SystemSolution(solution.u[part], solution.relative_residuals[part], 0, solution.method)
        return estimate_error(jacobian, solution, right[part], transposed, {})
    if jacobian.options.error_estimate == "none" or not bool(torch.isfinite(solution.u).all()):
        return math.nan
    thorough = jacobian.options.error_estimate == "first-order" or is_dense(jacobian)
    u, gain = solution.u, krylov.norms(solution.u) / krylov.norms(right).clamp(min=torch.finfo(right.dtype).tiny)
    value = jacobian.packing.pack(jacobian.values)
    if thorough:
        step = -solve_system(jacobian, value, False).u
    else:
        step = -torch.sign((u * right).sum(-1, keepdim=True)) * gain * value
    x = jacobian.packing.unpack(jacobian.packing.pack(jacobian.x) + step)
    moved = StateJacobian(jacobian.call, x, jacobian.theta)
    if transposed:
        return _reverse_error(jacobian, moved, u, right, thorough)
    return _forward_error(jacobian, moved, u, right, motion, thorough)


def _reverse_error(here: StateJacobian, there: StateJacobian, u: Tensor, right: Tensor, thorough: bool) -> float:
    """Of `−Bᵀu` with `Jᵀu = right`."""
    _, slopes = here.joint_pull(u)
    moved_image, moved_slopes = there.joint_pull(u)
    left = right - moved_image  # the linear residual, and the change of Jᵀu
    changes = [b - a for a, b in zip(slopes, moved_slopes, strict=True)]
    if thorough:
        _, more = here.joint_pull(solve_system(here, left, True).u)
        return _ratio(_norm([c + m for c, m in zip(changes, more, strict=True)]), _norm(slopes))
    return _ratio(_norm(changes), _norm(slopes)) + _ratio(_norm([left]), _norm([right]))


def _forward_error(
    here: StateJacobian, there: StateJacobian, u: Tensor, right: Tensor, motion: Mapping[int, Tensor], thorough: bool
) -> float:
    """Of u with `J u = right`, right being the image of `motion` where there is one."""
    tangents = [*here.packing.unpack(u)]
    for index, one in zip(here.active, here.active_theta, strict=True):
        known = index in motion and motion[index].shape == one.shape
        tangents.append(-motion[index].detach() if known else torch.zeros_like(one))
    changes = [
        here.packing.pack(push(point.joint, [*point.x, *point.active_theta], tangents)) for point in (here, there)
    ]
    left = changes[0] - changes[1]
    left = left + (right - here.product(u, transposed=False))
    if thorough:
        return _ratio(_norm([solve_system(here, left, False).u]), _norm([u]))
    return _ratio(_norm([left]), _norm([right]))


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(one)) ** 2 for one in tensors))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else (math.inf if part > 0 else 0.0)
