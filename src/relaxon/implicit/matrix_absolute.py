"""The absolute value of a symmetric matrix, |X| = (X²)^½, with derivatives of every order at repeated eigenvalues.

From A = |X|, A² = X² it follows that `A dA + dA A = X dX + dX X`: a Sylvester equation, whose solution `S(A, G)` of
`A S + S A = G` has derivatives of the same kind. No quotient of eigenvalue differences appears, so nothing grows
where eigenvalues meet; eigenvalues of |X| that are zero are divided by and refused by infinities.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function


def absolute_matrix(x: Tensor) -> Tensor:
    """Return |X| = V |Λ| Vᵀ of symmetric matrices X = V Λ Vᵀ, of shape (..., n, n)."""
    result: Tensor = _Absolute.apply(x)  # type: ignore[no-untyped-call]
    return result


def _solve_sylvester(a: Tensor, g: Tensor) -> Tensor:
    """Return S of `A S + S A = G`, differentiable."""
    result: Tensor = _Sylvester.apply(a, g)  # type: ignore[no-untyped-call]
    return result


class _Absolute(Function):
    """A = |X|; both directions of the derivative by one Sylvester equation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(x)
        result: Tensor = (vectors * values.abs().unsqueeze(-2)) @ vectors.mT
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, a = ctx.saved_tensors
        solved = _solve_sylvester(a, _symmetric(gradients[0]))
        return x @ solved + solved @ x

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        x, a = ctx.saved_tensors
        return _solve_sylvester(a, x @ _symmetric(tangents[0]) + _symmetric(tangents[0]) @ x)


class _Sylvester(Function):
    """S of A S + S A = G for symmetric positive definite A and symmetric G; symmetric itself, self-adjoint in G."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, g: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(a)
        sums = values.unsqueeze(-1) + values.unsqueeze(-2)
        result: Tensor = vectors @ ((vectors.mT @ g @ vectors) / sums) @ vectors.mT
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        a, s = ctx.saved_tensors
        solved = _solve_sylvester(a, _symmetric(gradients[0]))
        return -(solved @ s + s @ solved), solved

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        a, s = ctx.saved_tensors
        da, dg = (_symmetric(t) if t is not None else torch.zeros_like(a) for t in tangents)
        return _solve_sylvester(a, dg - da @ s - s @ da)


def _symmetric(x: Tensor) -> Tensor:
    return 0.5 * (x + x.mT)
