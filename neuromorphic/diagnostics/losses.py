"""Losses of rows and their derivatives by the outputs, for targets `(n, K)` that are real or one-hot."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

LossKind = Literal["cross-entropy", "squared", "poisson"]
LOSS_KINDS: tuple[str, ...] = get_args(LossKind)


def row_losses(kind: LossKind, outputs: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each row, `(n,)`, for outputs and targets `(n, K)`.

    "cross-entropy": `log Σ e^z − zᵀy`; "squared": `½‖z − y‖²`; "poisson": `Σ e^z − yz`, z the logarithm of the mean.
    """
    if kind == "cross-entropy":
        return torch.logsumexp(outputs, -1) - (outputs * target).sum(-1)
    if kind == "squared":
        return 0.5 * (outputs - target).square().sum(-1)
    return (torch.exp(outputs) - target * outputs).sum(-1)


def differentiate_losses(kind: LossKind, outputs: Tensor, target: Tensor) -> Tensor:
    """Return the derivative of the loss by the outputs, `(n, K)`: `softmax(z) − y`, `z − y` or `e^z − y`."""
    return apply_link(kind, outputs) - target


def apply_link(kind: LossKind, outputs: Tensor) -> Tensor:
    """Return the predictions for outputs, `(n, K)`: probabilities of the classes, values, or means."""
    if kind == "cross-entropy":
        return torch.softmax(outputs, -1)
    return outputs if kind == "squared" else torch.exp(outputs)


def widen_logit(outputs: Tensor) -> Tensor:
    """Return two logits `(n, 2)` for the single logit `(n, 1)` of a binary classifier's second class."""
    return torch.cat([torch.zeros_like(outputs), outputs], -1)
