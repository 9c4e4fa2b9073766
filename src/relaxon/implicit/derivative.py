"""The linear system of a derivative, solved and judged: what the autograd rule calls on plain tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.calls import SolverCall
from relaxon.implicit.jacobian import Jacobian, Solved
from relaxon.implicit.options import ROOT_RTOL
from relaxon.implicit.products import push, vjp
from relaxon.implicit.verdict import DerivativeOutcome, DerivativeVerdict, deliver

ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-8}
"""What the probe may find of a Jacobian that was declared symmetric."""


@torch.no_grad()
def solve_and_judge(
    call: SolverCall, transposed: bool, right: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
) -> list[Tensor]:
    """Return the leaves of u with `J u = right` (`Jᵀ u = right` where transposed), which may have an axis before x's.

    Raises
    ------
    DerivativeError : as the options ask. ValueError: for a Jacobian that is not symmetric and was declared so.
    """
    jacobian = Jacobian(call, x, theta)
    packing = jacobian.packing
    extra = right[0].shape[: right[0].ndim - x[0].ndim]
    several = math.prod(extra)
    if several == 0 or packing.samples == 0 or packing.unknowns == 0:
        return [torch.zeros_like(one) for one in right]
    flat = [one.reshape(several, *leaf.shape) for one, leaf in zip(right, x, strict=True)]
    b = torch.cat([packing.pack([one[k] for one in flat]) for k in range(several)])
    roots, root_tolerance, is_root = _judge_root(jacobian)
    finite = bool(torch.isfinite(b).all()) and bool(torch.isfinite(roots).all())
    if not finite:
        nan = torch.full_like(b, math.nan)
        solved = Solved(nan, torch.full_like(b[:, 0], math.nan), 0, "none")
        told = "the root" if not bool(torch.isfinite(roots).all()) else "the incoming derivative"
        verdict = _verdict(call, transposed, solved, jacobian, roots, root_tolerance, math.nan, f"{told} is not finite")
        deliver(verdict, call.sinks, call.options.on_unconverged)
    else:
        if not is_root and call.options.on_unconverged == "error":
            nothing = Solved(b, torch.full_like(b[:, 0], math.nan), 0, "none")
            verdict = _verdict(
                call, transposed, nothing, jacobian, roots, root_tolerance, math.nan, "", DerivativeOutcome.NOT_A_ROOT
            )
            deliver(verdict, call.sinks, "error")
        if call.options.symmetric:
            _refuse_asymmetric(jacobian)
        solved = jacobian.solve(b, transposed)
        outcome = None if is_root else DerivativeOutcome.NOT_A_ROOT
        error = _estimate(jacobian, solved, b, transposed)
        verdict = _verdict(call, transposed, solved, jacobian, roots, root_tolerance, error, "", outcome)
        deliver(verdict, call.sinks, call.options.on_unconverged)
    parts = [packing.unpack(part) for part in solved.u.split(packing.samples)]
    return [torch.stack(same).reshape(one.shape) for same, one in zip(zip(*parts, strict=True), right, strict=True)]


def _judge_root(jacobian: Jacobian) -> tuple[Tensor, float, bool]:
    """Relative residuals a sample, their tolerance, and whether all meet it or the absolute one."""
    packing, options = jacobian.packing, jacobian.options
    value, x, p = packing.pack(jacobian.values), packing.pack(jacobian.x), jacobian.probe()
    active = [index for index, one in enumerate(jacobian.call.active) if one]

    def joint(*tensors: Tensor) -> tuple[Tensor, ...]:
        theta = list(jacobian.theta)
        for index, one in zip(active, tensors[len(jacobian.x) :], strict=True):
            theta[index] = one
        return jacobian.call.residual(tensors[: len(jacobian.x)], theta)

    theta = [jacobian.theta[index] for index in active]
    pulled = vjp(joint, *jacobian.x, *theta)[1](tuple(packing.unpack(p)))
    scale = krylov.norms(packing.pack(pulled[: len(jacobian.x)])) * krylov.norms(x) / math.sqrt(packing.unknowns)
    for one, image in zip(theta, pulled[len(jacobian.x) :], strict=True):
        if one.numel():
            size = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(image) / math.sqrt(one.numel())
            scale = scale + (size / math.sqrt(packing.samples)).to(scale.dtype)
    residuals = krylov.relative(value, scale)[:, 0].double()
    tolerance = options.root_rtol or ROOT_RTOL[jacobian.single]
    met = (residuals <= tolerance) | (krylov.norms(value)[:, 0] <= options.root_atol)
    return residuals, tolerance, bool(met.all())


def _refuse_asymmetric(jacobian: Jacobian) -> None:
    found, most = jacobian.asymmetry(), ASYMMETRY[jacobian.single]
    if not found <= most:
        raise ValueError(
            f"symmetric must be False for this F: a probe of its Jacobian finds ‖Jᵀp − Jp‖/‖Jᵀp‖ = {found:.1e}, more "
            f"than {most:.0e}"
        )


def _estimate(jacobian: Jacobian, solved: Solved, b: Tensor, transposed: bool) -> float:
    return math.nan


def _verdict(
    call: SolverCall,
    transposed: bool,
    solved: Solved,
    jacobian: Jacobian,
    roots: Tensor,
    root_tolerance: float,
    error: float,
    message: str,
    outcome: DerivativeOutcome | None = None,
) -> DerivativeVerdict:
    shape = jacobian.x[0].shape[: call.batch_dims]
    left = solved.relative_residuals.double().reshape(-1, jacobian.packing.samples).amax(0)
    if outcome is None:
        if not bool(torch.isfinite(solved.u).all()):
            outcome = DerivativeOutcome.SINGULAR if solved.note == "singular" else DerivativeOutcome.NON_FINITE
        elif solved.note == "singular":
            outcome = DerivativeOutcome.SINGULAR
        elif bool((left <= jacobian.rtol).all()):
            outcome = DerivativeOutcome.CONVERGED
        elif solved.products < jacobian.max_products:
            outcome = DerivativeOutcome.STAGNATED
        else:
            outcome = DerivativeOutcome.MAX_ITERATIONS
    return DerivativeVerdict(
        system="adjoint" if transposed else "tangent",
        outcome=outcome,
        method=solved.method,
        root_residuals=roots.reshape(shape),
        linear_residuals=left.reshape(shape),
        root_tolerance=root_tolerance,
        linear_tolerance=jacobian.rtol,
        error_estimate=error,
        products=solved.products,
        message=message,
    )
