"""Products with a Jacobian and its transpose, from reverse mode alone: functions of tensors to tuples of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import vjp

TensorMap = Callable[..., tuple[Tensor, ...]]


def push(function: TensorMap, at: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the derivative of `function(*at)` along the tangents."""
    return linearised(function, at)(*tangents)


def linearised(function: TensorMap, at: Sequence[Tensor]) -> TensorMap:
    """Return the map of tangents to the derivative of `function(*at)` along them.

    It is the transpose of the transpose, which asks of the function only that reverse mode goes through it twice; the
    function runs once, however often the map is used.
    """
    outputs, pull = vjp(function, *at)
    _, transposed = vjp(lambda *cotangents: pull(cotangents), *[torch.zeros_like(one) for one in outputs])
    return lambda *tangents: transposed(tuple(tangents))[:]


def bilinear_gradient(
    function: TensorMap,
    at: Sequence[Tensor],
    others: Sequence[Tensor],
    left: Sequence[Tensor],
    right: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Return the gradient of `Re⟨left, ∂₁f(at, others) right⟩` in `at` and `others`."""
    return tuple(vjp(transposed_image(function, len(at), left), *at, *others)[1](tuple(right)))


def transposed_image(function: TensorMap, count: int, left: Sequence[Tensor]) -> TensorMap:
    """Return `(at, others) ↦ ∂₁f(at, others)ᵀ left`, f's first `count` arguments being `at`."""

    def image(*tensors: Tensor) -> tuple[Tensor, ...]:
        _, pull = vjp(lambda *at: function(*at, *tensors[count:]), *tensors[:count])
        return tuple(pull(tuple(left)))

    return image
