"""The implicit function theorem as two autograd functions that call one another.

With `F(x(θ), θ) = 0` and `A = ∂₁F`, `B = ∂₂F`: `dx = −A⁻¹ B dθ`, and for a gradient g of x that of θ is `−Bᵀu` with
`Aᵀu = g` (Blondel et al. 2022, equation 2). `_Root` is x(θ); `_Solve` is the solution of a system with A or Aᵀ, a root of
its own, whose derivatives are again such systems. That is what makes derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from relaxon.implicit.calls import SolverCall, VmappedCall
from relaxon.implicit.derivative import solve_and_judge
from relaxon.implicit.products import bilinear_gradient, push, transposed_image


def differentiable_root(call: SolverCall, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the leaves of x and the tensors of the auxiliary output, x differentiable in the active tensors of θ."""
    outputs: tuple[Tensor, ...] = _Root.apply(call, *tensors)  # type: ignore[no-untyped-call]
    return outputs


class _Root(torch.autograd.Function):
    """x as a function of (start, θ); the start has no derivative."""

    @staticmethod
    def forward(call: SolverCall, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            x, aux = call.solve(tensors)
        return (*x, *aux)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call: SolverCall = inputs[0]
        ctx.call, ctx.outputs = call, len(output)
        x, theta = output[: call.x_count], inputs[1 + call.starts_count :]
        ctx.mark_non_differentiable(*output[call.x_count :])
        ctx.save_for_backward(*x, *theta)
        ctx.save_for_forward(*x, *theta)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: SolverCall = ctx.call
        x, theta = ctx.saved_tensors[: call.x_count], ctx.saved_tensors[call.x_count :]
        first = 1 + call.starts_count
        wanted = [i for i, on in enumerate(call.active) if on and ctx.needs_input_grad[first + i]]
        found: list[Tensor | None] = [None] * (first + len(theta))
        if wanted:
            u = _solve(call, True, gradients[: call.x_count], x, theta)
            _, pull = vjp(_of_theta(call, x, theta, wanted), *[theta[i] for i in wanted])
            for index, gradient in zip(wanted, pull(tuple(u)), strict=True):
                found[first + index] = -gradient
        return tuple(found)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        call: SolverCall = ctx.call
        x, theta = ctx.saved_tensors[: call.x_count], ctx.saved_tensors[call.x_count :]
        given = tangents[1 + call.starts_count :]
        wanted = [i for i, on in enumerate(call.active) if on and given[i] is not None]
        if not wanted:
            moved: tuple[Tensor, ...] = tuple(torch.zeros_like(one) for one in x)
        else:
            right = push(_of_theta(call, x, theta, wanted), [theta[i] for i in wanted], [given[i] for i in wanted])
            moved = tuple(-one for one in _solve(call, False, right, x, theta))
        return (*moved, *[None] * (ctx.outputs - len(moved)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: SolverCall, *tensors: Tensor) -> tuple[Any, Any]:
        moved, dims = _moved(tensors, in_dims[1:])
        outputs = _Root.apply(VmappedCall(call, info.batch_size, dims), *moved)  # type: ignore[no-untyped-call]
        call.x_count = call.x_count  # set by the solves inside
        return outputs, (0,) * len(outputs)


class _Solve(torch.autograd.Function):
    """u with `A u = right` or `Aᵀ u = right`, as a function of (right, x, θ)."""

    @staticmethod
    def forward(call: SolverCall, transposed: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = call.x_count
        right, x, theta = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        return tuple(solve_and_judge(call, transposed, right, x, theta))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, ctx.transposed = inputs[:2]
        point = inputs[2 + ctx.call.x_count :]
        ctx.save_for_backward(*output, *point)
        ctx.save_for_forward(*output, *point)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call, transposed = ctx.call, ctx.transposed
        u, x, theta = _split(ctx.saved_tensors, call.x_count)
        w = _solve(call, not transposed, gradients, x, theta)
        needs = ctx.needs_input_grad[2 + call.x_count :]
        active = [True] * call.x_count + list(call.active)
        wanted = [i for i, on in enumerate(active) if on and needs[i]]
        found: list[Tensor | None] = [None] * len(active)
        if wanted:
            left, right = (u, w) if transposed else (w, u)
            slopes = _pulled(call, x, theta, left, right, wanted)
            for index, slope in zip(wanted, slopes, strict=True):
                found[index] = -slope
        return (None, None, *w, *found)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        call, transposed = ctx.call, ctx.transposed
        u, x, theta = _split(ctx.saved_tensors, call.x_count)
        given = tangents[2:]
        right = [torch.zeros_like(v) if t is None else t for t, v in zip(given, u, strict=False)]
        active = [True] * call.x_count + list(call.active)
        moved = given[call.x_count :]
        wanted = [i for i, on in enumerate(active) if on and moved[i] is not None]
        if wanted:
            image = _image(call, x, theta, u, transposed, wanted)
            at = [*x, *theta]
            change = push(image, [at[i] for i in wanted], [moved[i] for i in wanted])
            right = [r - c for r, c in zip(right, change, strict=True)]
        return tuple(_solve(call, transposed, right, x, theta))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], call: SolverCall, transposed: bool, *tensors: Tensor
    ) -> tuple[Any, Any]:
        moved, dims = _moved(tensors, in_dims[2:])
        count = call.x_count
        whole = [t if dim == 0 else t.expand(info.batch_size, *t.shape) for t, dim in zip(moved, dims, strict=True)]
        child = VmappedCall(call, info.batch_size, [None] * call.starts_count + dims[2 * count :])
        outputs = _Solve.apply(child, transposed, *whole[: 2 * count], *moved[2 * count :])  # type: ignore[no-untyped-call]
        return outputs, (0,) * len(outputs)


def _solve(
    call: SolverCall, transposed: bool, right: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    u: tuple[Tensor, ...] = _Solve.apply(call, transposed, *right, *x, *theta)  # type: ignore[no-untyped-call]
    return u


def _split(tensors: Sequence[Tensor], count: int) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    return tensors[:count], tensors[count : 2 * count], tensors[2 * count :]


def _moved(tensors: Sequence[Tensor], dims: Sequence[int | None]) -> tuple[list[Tensor], list[int | None]]:
    """The tensors with the mapped axis first."""
    return (
        [t if dim is None else t.movedim(dim, 0) for t, dim in zip(tensors, dims, strict=True)],
        [None if dim is None else 0 for dim in dims],
    )


def _of_theta(call: SolverCall, x: Sequence[Tensor], theta: Sequence[Tensor], wanted: Sequence[int]) -> Any:
    """F as a function of the wanted tensors of θ."""

    def function(*chosen: Tensor) -> tuple[Tensor, ...]:
        full = list(theta)
        for index, one in zip(wanted, chosen, strict=True):
            full[index] = one
        return call.residual(x, full)

    return function


def _image(
    call: SolverCall,
    x: Sequence[Tensor],
    theta: Sequence[Tensor],
    v: Sequence[Tensor],
    transposed: bool,
    wanted: Sequence[int],
) -> Any:
    """`Av` or `Aᵀv` as a function of the wanted tensors of (x, θ)."""
    count = len(x)

    def residual(*tensors: Tensor) -> tuple[Tensor, ...]:
        return call.residual(tensors[:count], tensors[count:])

    def function(*chosen: Tensor) -> tuple[Tensor, ...]:
        full = [*x, *theta]
        for index, one in zip(wanted, chosen, strict=True):
            full[index] = one
        if transposed:
            return transposed_image(residual, count, v)(*full)
        return push(lambda *at: residual(*at, *full[count:]), full[:count], v)

    return function


def _pulled(
    call: SolverCall,
    x: Sequence[Tensor],
    theta: Sequence[Tensor],
    left: Sequence[Tensor],
    right: Sequence[Tensor],
    wanted: Sequence[int],
) -> tuple[Tensor, ...]:
    """The gradient of `Re⟨left, A right⟩` in the wanted tensors of (x, θ)."""
    at = [*x, *theta]
    _, pull = vjp(_image(call, x, theta, left, True, wanted), *[at[i] for i in wanted])
    return tuple(pull(tuple(right)))
