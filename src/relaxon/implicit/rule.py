"""The implicit function theorem as two autograd functions that call one another.

With `F(x(θ), θ) = 0` and `A = ∂₁F`, `B = ∂₂F`: `dx = −A⁻¹ B dθ`, and for a gradient g of x that of θ is `−Bᵀu` with
`Aᵀu = g` (Blondel et al. 2022, equation 2). `_Root` is x(θ); `_Solve` is the solution of a system with A or Aᵀ, a root
of its own, whose derivatives are again such systems. That is what makes derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import forward_ad
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

from relaxon.implicit.calls import SolverCall, VmappedCall
from relaxon.implicit.derivative import reverse_gradient, solve_and_judge
from relaxon.implicit.products import choose_arguments, compute_transposed_image, image, pullback, push


def differentiable_root(call: SolverCall, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the leaves of x and the tensors of the auxiliary output, x differentiable in the active tensors of θ."""
    return _apply(_Root, call, *tensors)


class _Root(torch.autograd.Function):
    """The solution x as a function of (start, θ); the start has no derivative."""

    @staticmethod
    def forward(call: SolverCall, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            x, aux = call.solve(tensors)
        return (*x, *aux)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call: SolverCall = inputs[0]
        ctx.call, ctx.aux_count = call, len(output) - call.x_count
        x, theta = output[: call.x_count], inputs[1 + call.starts_count :]
        ctx.mark_non_differentiable(*output[call.x_count :])
        ctx.save_for_backward(*x, *theta)
        ctx.save_for_forward(*x, *theta)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: SolverCall = ctx.call
        x, theta = _split(unwrap_dead_wrappers(ctx.saved_tensors), call.x_count)
        first = 1 + call.starts_count
        wanted = [i for i, on in enumerate(call.active) if on and ctx.needs_input_grad[first + i]]
        found: list[Tensor | None] = [None] * (first + len(theta))
        if wanted and _is_plain():
            slopes = reverse_gradient(call, gradients[: call.x_count], x, theta)
            for index in wanted:
                found[first + index] = slopes[index]
        elif wanted:
            u = _solve(call, True, gradients[: call.x_count], x, theta)
            _, pull = pullback(_of_theta(call, x, theta, wanted), [theta[i] for i in wanted])
            for index, gradient in zip(wanted, pull(*u), strict=True):
                found[first + index] = -gradient
        return tuple(found)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        call: SolverCall = ctx.call
        x, theta = _split(_primals(unwrap_dead_wrappers(ctx.saved_tensors)), call.x_count)
        given = tangents[1 + call.starts_count :]
        wanted = [i for i, on in enumerate(call.active) if on and given[i] is not None]
        nothing = [None] * ctx.aux_count
        if not wanted:
            return (*(torch.zeros_like(one) for one in x), *nothing)
        with _set_fwd_grad_enabled(True):
            moved = [given[i] for i in wanted]
            right = push(_of_theta(call, x, theta, wanted), [theta[i] for i in wanted], moved)
            u = _solve(call, False, right, x, theta, tuple(wanted), moved)
            return (*(-one for one in u), *nothing)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: SolverCall, *tensors: Tensor) -> tuple[Any, Any]:
        moved, dims = _move_axes(tensors, in_dims[1:])
        outputs = _apply(_Root, VmappedCall(call, info.batch_size, dims), *moved)
        return outputs, (0,) * len(outputs)


class _Solve(torch.autograd.Function):
    """u with `A u = right` or `Aᵀ u = right`, as a function of (right, x, θ).

    The last tensors are the motion of θ that `right` is the image of, by the indices in θ; the error's estimate alone
    depends on it.
    """

    @staticmethod
    def forward(
        call: SolverCall, transposed: bool, moving: tuple[int, ...], theta_count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        count = call.x_count
        right, x, rest = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        motion = dict(zip(moving, rest[theta_count:], strict=True))
        return tuple(solve_and_judge(call, transposed, right, x, rest[:theta_count], motion))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, ctx.transposed, moving, theta_count = inputs[:4]
        ctx.moving = len(moving)
        start = 4 + ctx.call.x_count
        point = inputs[start : start + ctx.call.x_count + theta_count]
        ctx.save_for_backward(*output, *point)
        ctx.save_for_forward(*output, *point)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call, transposed = ctx.call, ctx.transposed
        count = call.x_count
        u, point = _split(unwrap_dead_wrappers(ctx.saved_tensors), count)
        w = _solve(call, not transposed, gradients, point[:count], point[count:])
        needs = ctx.needs_input_grad[4 + count :]
        wanted = [i for i, on in enumerate(_active(call)) if on and needs[i]]
        found: list[Tensor | None] = [None] * len(point)
        if wanted:
            # ⟨w, A u⟩ for `A u = right`, ⟨u, A w⟩ for `Aᵀ u = right`: both by the transpose, as a function of (x, θ).
            left, right = (u, w) if transposed else (w, u)
            function = choose_arguments(compute_transposed_image(_flat(call), count, left), point, wanted)
            slopes = pullback(function, [point[i] for i in wanted])[1](*right)
            for index, slope in zip(wanted, slopes, strict=True):
                found[index] = -slope
        return (None, None, None, None, *w, *found, *[None] * ctx.moving)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        call, transposed = ctx.call, ctx.transposed
        count = call.x_count
        u, point = _split(_primals(unwrap_dead_wrappers(ctx.saved_tensors)), count)
        given = tangents[4:]
        right = [torch.zeros_like(v) if t is None else t for t, v in zip(given, u, strict=False)]
        moved = given[count:]
        wanted = [i for i, on in enumerate(_active(call)) if on and moved[i] is not None]
        with _set_fwd_grad_enabled(True):
            if wanted:
                product = (compute_transposed_image if transposed else image)(_flat(call), count, u)
                function = choose_arguments(product, point, wanted)
                change = push(function, [point[i] for i in wanted], [moved[i] for i in wanted])
                right = [r - c for r, c in zip(right, change, strict=True)]
            return _solve(call, transposed, right, point[:count], point[count:])

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        call: SolverCall,
        transposed: bool,
        moving: tuple[int, ...],
        theta_count: int,
        *tensors: Tensor,
    ) -> tuple[Any, Any]:
        moved, dims = _move_axes(tensors, in_dims[4:])
        count, size = call.x_count, info.batch_size
        first = 2 * count + theta_count
        shared = all(dim is None for dim in dims[count:first])
        # Right-hand side and x have the axis; a tensor of θ and its motion have both or neither.
        both = {2 * count + i: first + k for k, i in enumerate(moving) if not shared}
        pairs = [pair for pair in both.items() if dims[pair[0]] != dims[pair[1]]]
        for index in (*range(2 * count), *(one for pair in pairs for one in pair)):
            if dims[index] is None:
                moved[index], dims[index] = moved[index].expand(size, *moved[index].shape), 0
        child = VmappedCall(call, size, [None] * call.starts_count + dims[2 * count : first], shared=shared)
        outputs = _apply(_Solve, child, transposed, moving, theta_count, *moved)
        return outputs, (0,) * len(outputs)


def _solve(
    call: SolverCall,
    transposed: bool,
    right: Sequence[Tensor],
    x: Sequence[Tensor],
    theta: Sequence[Tensor],
    moving: tuple[int, ...] = (),
    motion: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    return _apply(_Solve, call, transposed, moving, len(theta), *right, *x, *theta, *motion)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> tuple[Tensor, ...]:
    """Apply the function to tensors of living `torch.func` levels.

    A `pull` of `torch.func.vjp` runs when its level has ended, and hands wrappers of that level to the rules here.
    torch takes them off only where no other transform is at work, and fails on them by an internal assertion else.
    """
    arguments = unwrap_dead_wrappers(arguments)
    return cast(tuple[Tensor, ...], function.apply(*arguments))  # type: ignore[no-untyped-call]


def _is_plain() -> bool:
    """Return whether nothing will differentiate or transform the current computation."""
    functorch = torch._C._functorch.peek_interpreter_stack() is not None
    return not (torch.is_grad_enabled() or functorch or forward_ad._current_level >= 0)


def _primals(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What was saved, without the tangents of the level that a `jvp` rule is for.

    torch turns forward mode off in such a rule, which loses the tangents of the levels below without a word (issue
    197867 of pytorch): the rules here turn it on again, and take this level's tangents away instead.
    """
    return tuple(unpack_dual(one).primal for one in unwrap_dead_wrappers(tuple(tensors)))  # type: ignore[no-untyped-call]


def _split(tensors: Sequence[Tensor], count: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return tensors[:count], tensors[count:]


def _active(call: SolverCall) -> list[bool]:
    """Of the tensors of (x, θ), which may have a derivative."""
    return [True] * call.x_count + list(call.active)


def _move_axes(tensors: Sequence[Tensor], dims: Sequence[int | None]) -> tuple[list[Tensor], list[int | None]]:
    """The tensors with the mapped axis first."""
    return (
        [t if dim is None else t.movedim(dim, 0) for t, dim in zip(tensors, dims, strict=True)],
        [None if dim is None else 0 for dim in dims],
    )


def _flat(call: SolverCall) -> Any:
    """F as a function of all tensors of (x, θ)."""
    return lambda *tensors: call.residual(tensors[: call.x_count], tensors[call.x_count :])


def _of_theta(call: SolverCall, x: Sequence[Tensor], theta: Sequence[Tensor], wanted: Sequence[int]) -> Any:
    """F as a function of the wanted tensors of θ."""
    return choose_arguments(lambda *full: call.residual(x, full), theta, wanted)
