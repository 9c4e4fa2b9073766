"""Solution and check of a derivative's linear system, on plain tensors, for the autograd rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.calls import SolverCall, VmappedCall
from relaxon.implicit.estimate import estimate_error
from relaxon.implicit.jacobian import StateJacobian
from relaxon.implicit.options import ROOT_RTOL
from relaxon.implicit.systems import SystemSolution, solve_system
from relaxon.implicit.verdict import DerivativeOutcome, DerivativeVerdict, deliver


@torch.no_grad()
def solve_and_judge(
    call: SolverCall,
    transposed: bool,
    right: Sequence[Tensor],
    x: Sequence[Tensor],
    theta: Sequence[Tensor],
    motion: Mapping[int, Tensor],
) -> list[Tensor]:
    """Return the leaves of u with `J u = right`, or `Jᵀ u = right` where transposed, after checking it.

    `motion` is that of the tensors of θ, by index, of which `right` is the image in forward mode; may be empty.

    Raises
    ------
    DerivativeError : as the options ask. ValueError: for an F that does not return what it must, and for a Jacobian
        that was declared symmetric and is not.
    """
    while isinstance(call, VmappedCall) and call.shared:
        # One point for the whole axis: several right-hand sides of one system.
        call, x, motion = call.inner, [one[0] for one in x], {}
    jacobian, b = _prepare(call, right, x, theta)
    packing = jacobian.packing
    solution = _judge(jacobian, b, transposed, motion)
    parts = [packing.unpack(part) for part in torch.split(solution, packing.samples)]
    return [torch.stack(same).reshape(one.shape) for same, one in zip(zip(*parts, strict=True), right, strict=True)]


@torch.no_grad()
def reverse_gradient(
    call: SolverCall, right: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
) -> dict[int, Tensor]:
    """Return `−Bᵀu` with `Jᵀ u = right` for the tensors of θ that may have a derivative, by index, after checking it.

    The same as `solve_and_judge` and a product, with F run once for both; raises the same.
    """
    jacobian, b = _prepare(call, right, x, theta)
    slopes = jacobian.theta_pull(_judge(jacobian, b, True, {}))
    return {index: -slope for index, slope in zip(jacobian.active, slopes, strict=True)}


def _prepare(
    call: SolverCall, right: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
) -> tuple[StateJacobian, Tensor]:
    """Return the Jacobian and the packed right-hand side, which may have axes before those of x."""
    if any(torch._C._functorch.is_legacy_batchedtensor(one) for one in right):
        raise TypeError(
            "is_grads_batched (vectorize in torch.autograd.functional) must be False for an implicit derivative, whose "
            "tests need numbers: take torch.func.jacrev or torch.vmap instead"
        )
    if any(one.numel() == 0 for one in right):
        raise ValueError("x must have elements in all of its leaves for a derivative, got one without")
    jacobian = StateJacobian(call, x, theta)
    flat = [one.reshape(-1, *leaf.shape) for one, leaf in zip(right, jacobian.x, strict=True)]
    return jacobian, torch.cat([jacobian.packing.pack([one[k] for one in flat]) for k in range(len(flat[0]))])


def _judge(jacobian: StateJacobian, b: Tensor, transposed: bool, motion: Mapping[int, Tensor]) -> Tensor:
    """Solve the system and deliver the verdict; skip the solve where the derivative is rejected anyway."""
    options, sinks = jacobian.options, jacobian.call.sinks
    roots, root_tolerance, is_root = judge_root(jacobian)
    solution = SystemSolution(torch.full_like(b, math.nan), torch.full_like(b[:, 0], math.nan), 0, "nothing")
    error, message, outcome = math.nan, "", None if is_root else DerivativeOutcome.NOT_A_ROOT
    if not (is_finite := bool(torch.isfinite(jacobian.value).all())) or not bool(torch.isfinite(b).all()):
        outcome = DerivativeOutcome.NON_FINITE
        message = f"NaN or infinity in {'the incoming derivative' if is_finite else 'F(x, θ)'}"
    elif is_root or options.on_unconverged == "record":
        if options.symmetric:
            jacobian.refuse_asymmetric()
        solution = solve_system(jacobian, b, transposed)
        outcome = outcome or _outcome(jacobian, solution)
        error = estimate_error(jacobian, solution, b, transposed, motion)
    shape = jacobian.x[0].shape[: jacobian.call.batch_dims]
    left = solution.relative_residuals.double().reshape(-1, jacobian.packing.samples).amax(0)
    verdict = DerivativeVerdict(
        system="adjoint" if transposed else "tangent",
        outcome=outcome or DerivativeOutcome.CONVERGED,
        method=solution.method,
        root_residuals=roots.reshape(shape),
        linear_residuals=left.reshape(shape),
        root_tolerance=root_tolerance,
        linear_tolerance=jacobian.rtol,
        error_estimate=error,
        products=solution.products,
        message=message,
    )
    deliver(verdict, sinks, options.on_unconverged)
    return solution.u


def judge_root(jacobian: StateJacobian) -> tuple[Tensor, float, bool]:
    """Return the relative residuals of `F(x, θ)` a sample, their tolerance, and whether all are within it.

    The scale is `‖J‖‖x‖/√n + Σ ‖∂F/∂θₖ‖‖θₖ‖/√mₖ` with Frobenius norms, which one product with a random p estimates
    (`E‖Jᵀp‖² = ‖J‖²`): the mean-square change of F for a change of x, or of θ, by all of itself. Relative to it, a
    residual does not depend on the units of F, x or θ.
    """
    packing, options = jacobian.packing, jacobian.options
    value = jacobian.value
    if options.root_rtol == math.inf:
        return torch.full_like(value[:, 0], math.nan).double(), math.inf, True
    image, slopes = jacobian.probed
    scale = (
        krylov.norms(image)
        * krylov.norms(packing.pack([one.detach() for one in jacobian.x]))
        / math.sqrt(packing.unknowns)
    )
    for one, slope in zip(jacobian.active_theta, slopes, strict=True):
        if one.numel():
            size = torch.linalg.vector_norm(one.detach()) * torch.linalg.vector_norm(slope)
            scale = scale + (size / math.sqrt(one.numel() * packing.samples)).to(scale.dtype)
    residuals = krylov.relative(value, scale)[:, 0].double()
    tolerance = options.root_rtol or ROOT_RTOL[jacobian.precision]
    met = (residuals <= tolerance) | (krylov.norms(value)[:, 0] <= options.root_atol)
    return residuals, tolerance, bool(met.all())


def _outcome(jacobian: StateJacobian, solution: SystemSolution) -> DerivativeOutcome:
    if solution.singular:
        return DerivativeOutcome.SINGULAR
    if not bool(torch.isfinite(solution.u).all()):
        return DerivativeOutcome.NON_FINITE
    if jacobian.rtol == math.inf or bool((solution.relative_residuals <= jacobian.rtol).all()):
        return DerivativeOutcome.CONVERGED
    if solution.products < jacobian.max_products:
        return DerivativeOutcome.STAGNATED
    return DerivativeOutcome.MAX_ITERATIONS
