"""Products with a Jacobian and its transpose, from reverse mode alone: functions of tensors to tuples of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

TensorMap = Callable[..., tuple[Tensor, ...]]


def pullback(function: TensorMap, at: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], TensorMap]:
    """Return `function(*at)`, and the map of cotangents `v` to `Jᵀv`; both take and give several tensors."""
    outputs, pull = cast(Any, torch.func.vjp)(function, *at)
    return outputs, lambda *cotangents: pull(tuple(cotangents))


def linearise(function: TensorMap, at: Sequence[Tensor]) -> TensorMap:
    """Return the map of tangents to the derivative of `function(*at)` along them.

    It is the transpose of the transpose, which asks of the function only that reverse mode goes through it twice; the
    function runs once, however often the map is used.
    """
    outputs, pull = pullback(function, at)
    return pullback(pull, [torch.zeros_like(one) for one in outputs])[1]


def push(function: TensorMap, at: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the derivative of `function(*at)` along the tangents."""
    return linearise(function, at)(*tangents)


def choose_arguments(function: TensorMap, at: Sequence[Tensor], chosen: Sequence[int]) -> TensorMap:
    """Return a function of some of its arguments, by their indices; the others stay what they are in `at`."""

    def of_chosen(*tensors: Tensor) -> tuple[Tensor, ...]:
        full = list(at)
        for index, one in zip(chosen, tensors, strict=True):
            full[index] = one
        return function(*full)

    return of_chosen


def compute_transposed_image(function: TensorMap, count: int, left: Sequence[Tensor]) -> TensorMap:
    """Return `(at, others) ↦ ∂₁f(at, others)ᵀ left`, f's first `count` arguments being `at`."""

    def image(*tensors: Tensor) -> tuple[Tensor, ...]:
        return pullback(lambda *at: function(*at, *tensors[count:]), tensors[:count])[1](*left)

    return image


def image(function: TensorMap, count: int, right: Sequence[Tensor]) -> TensorMap:
    """Return `(at, others) ↦ ∂₁f(at, others) right`, f's first `count` arguments being `at`."""
    return lambda *tensors: push(lambda *at: function(*at, *tensors[count:]), tensors[:count], right)
