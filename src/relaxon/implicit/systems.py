"""Solution of linear systems with the Jacobian, by factors, a Krylov method, or the user's solver."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.jacobian import StateJacobian

LARGEST_DENSE = 2**22
"""Largest number of entries of all samples' Jacobians for which "auto" builds them."""


@dataclass(frozen=True, slots=True)
class SystemSolution:
    """A linear solve: `u` and relative residuals, `(right-hand sides × samples, …)`, and how it went."""

    u: Tensor
    relative_residuals: Tensor
    products: int
    method: str
    singular: bool = False


def is_dense(jacobian: StateJacobian) -> bool:
    """Return whether systems are solved by factors of J itself."""
    options, n = jacobian.options, jacobian.packing.unknowns
    small = n <= options.dense_limit and jacobian.packing.samples * n * n <= LARGEST_DENSE
    return options.linear_solver is None and (options.method == "direct" or (options.method == "auto" and small))


def solve_system(jacobian: StateJacobian, right: Tensor, transposed: bool) -> SystemSolution:
    """Solve `J u = right`, or `Jᵀ u = right`, as the options say."""
    if jacobian.options.linear_solver is not None:
        return _solve_by_user(jacobian, right, transposed)
    if is_dense(jacobian):
        return _solve_densely(jacobian, right, transposed)
    return _solve_by_krylov(jacobian, right, transposed)


def _solve_by_krylov(jacobian: StateJacobian, right: Tensor, transposed: bool) -> SystemSolution:
    options, call = jacobian.options, jacobian.call

    def apply(v: Tensor) -> Tensor:
        return jacobian.product(v, transposed)

    # The products of true residuals give Bᵀu too, which the gradient and the error's estimate ask for.
    jointly = transposed and len(right) == jacobian.packing.samples
    check = (lambda v: jacobian.joint_pull(v)[0]) if jointly else apply
    precondition = _preconditioner(jacobian, transposed)
    key = ("start", transposed, tuple(right.shape), right.dtype, right.device, jacobian.packing.shapes)
    start = call.starts.get(key) if options.warm_start else None
    method, spent = str(options.method), 0
    if method == "auto":
        method = "cg" if options.symmetric else "gmres"
    if method == "cg":
        found = krylov.cg(apply, right, start, precondition, jacobian.rtol, jacobian.max_products, check)
        if found.indefinite:
            method, start, spent = "cg+gmres", found.x, found.products
    elif method == "bicgstab":
        found = krylov.bicgstab(apply, right, start, precondition, jacobian.rtol, jacobian.max_products, check)
    if method.endswith("gmres"):
        limit = max(1, jacobian.max_products - spent)
        found = krylov.gmres(apply, right, start, precondition, jacobian.rtol, limit, options.restart)
    if options.warm_start and bool(torch.isfinite(found.x).all()):
        call.starts.put(key, found.x)
    return SystemSolution(found.x, found.relative_residuals, spent + found.products, method)


def _preconditioner(jacobian: StateJacobian, transposed: bool) -> krylov.Map | None:
    options = jacobian.options
    function = (options.adjoint_preconditioner if transposed else None) or options.preconditioner
    return None if function is None else lambda v: _apply_by_structure(jacobian, v, lambda tree, *_: function(tree))


def _apply_by_structure(jacobian: StateJacobian, v: Tensor, function: Callable[..., Any]) -> Tensor:
    """A map `(v, x, *theta)` of pytrees like x, on packed vectors."""
    packing, apply = jacobian.packing, jacobian.call.apply_structured
    parts = torch.split(v, packing.samples)
    return torch.cat([packing.pack(apply(function, packing.unpack(v), jacobian.x, jacobian.theta)) for v in parts])


def _solve_by_user(jacobian: StateJacobian, right: Tensor, transposed: bool) -> SystemSolution:
    solver = jacobian.options.linear_solver
    assert solver is not None
    u = _apply_by_structure(jacobian, right, lambda *arguments: solver(*arguments, transposed=transposed))
    if jacobian.rtol == math.inf:
        return SystemSolution(u, torch.full_like(u[:, 0], math.nan), 0, "linear_solver")
    left = krylov.relative(right - jacobian.product(u, transposed), krylov.norms(right))[:, 0]
    return SystemSolution(u, left, 1, "linear_solver")


def _solve_densely(jacobian: StateJacobian, right: Tensor, transposed: bool) -> SystemSolution:
    factors, pivots, singular, products = _factors(jacobian)
    samples, n = jacobian.packing.samples, jacobian.packing.unknowns
    columns = right.reshape(-1, samples, n).permute(1, 2, 0).contiguous()
    found = torch.linalg.lu_solve(factors, pivots, columns, adjoint=transposed)
    u = found.permute(2, 0, 1).reshape(right.shape)
    left = krylov.relative(right - jacobian.product(u, transposed), krylov.norms(right))[:, 0]
    return SystemSolution(u, left, products + 1, "direct", singular)


def _factors(jacobian: StateJacobian) -> tuple[Tensor, Tensor, bool, int]:
    """LU factors of every sample's J, whether one is singular to rounding, and the products that they took.

    They are kept with the call, for other derivatives at the same point.
    """
    point = [*jacobian.x, *jacobian.theta]
    key = tuple((one.data_ptr(), one._version, one.shape, one.stride(), one.dtype) for one in point)
    kept = jacobian.call.factors.get("factors")
    if kept is not None and kept[0] == key:
        return (*kept[2], 0)
    packing = jacobian.packing
    samples, n = packing.samples, packing.unknowns
    ones = torch.eye(n, dtype=packing.dtype, device=packing.device)
    rows = jacobian.product(ones[:, None, :].expand(n, samples, n).reshape(n * samples, n), transposed=True)
    matrix = rows.reshape(n, samples, n).permute(1, 0, 2).contiguous()
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    diagonal = torch.diagonal(factors, dim1=-2, dim2=-1).abs()
    smallest, largest = diagonal.amin(-1), diagonal.amax(-1)
    singular = bool((smallest <= n * torch.finfo(matrix.dtype).eps * largest).any())
    found = (factors, pivots, singular)
    # The point is kept too: while its tensors live, no others have their addresses.
    jacobian.call.factors.put("factors", (key, point, found))
    return (*found, n)
