"""Proximal operators `prox_{g}(x) = argmin_u ½‖u − x‖² + g(u)` of common regularisers, as torch functions.

The weights are differentiable too, and broadcast. In a proximal gradient step of size η pass η times the weight: the
operator of `η g`. Formulas: N. Parikh and S. Boyd, "Proximal algorithms", Foundations and Trends in Optimization 1(3),
2014, chapter 6.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_threshold(x: Tensor, weight: Tensor | float) -> Tensor:
    """Return the proximal operator of `weight · ‖x‖₁`: `sign(x) max(|x| − weight, 0)`, entry by entry; weight ≥ 0.

    >>> soft_threshold(torch.tensor([-2.0, 0.5, 3.0]), 1.0)
    tensor([-1.,  0.,  2.])
    """
    return torch.relu(x - weight) - torch.relu(-x - weight)


def group_soft_threshold(x: Tensor, weight: Tensor | float) -> Tensor:
    """Return the proximal operator of `weight · ‖x‖₂` of each vector `x[..., :]`: `max(1 − weight/‖x‖, 0) x`.

    The last axis is a group; `weight` is ≥ 0, a number or of the shape of the leading axes. A group as short as the
    weight becomes zero, with a derivative of zero.

    >>> group_soft_threshold(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[2.4000, 3.2000],
            [0.0000, 0.0000]])
    """
    limit = weight.unsqueeze(-1) if isinstance(weight, Tensor) else torch.as_tensor(weight, dtype=x.dtype)
    square = (x * x).sum(-1, keepdim=True)
    kept = square.detach() > limit.detach() ** 2
    # The root of a square that is not used would have an infinite derivative at zero.
    norm = torch.where(kept, square, torch.ones_like(square)).sqrt()
    return torch.where(kept, (1 - limit / norm) * x, torch.zeros_like(x))


def prox_elastic_net(x: Tensor, l1: Tensor | float, l2: Tensor | float) -> Tensor:
    """Return the proximal operator of `l1 · ‖x‖₁ + ½ l2 · ‖x‖²`: soft thresholding divided by `1 + l2`.

    >>> prox_elastic_net(torch.tensor([-2.0, 0.5, 3.0]), 1.0, 1.0)
    tensor([-0.5000,  0.0000,  1.0000])
    """
    return soft_threshold(x, l1) / (1 + l2)


def prox_squared_l2(x: Tensor, weight: Tensor | float) -> Tensor:
    """Return the proximal operator of `½ weight · ‖x‖²`: `x / (1 + weight)`.

    >>> prox_squared_l2(torch.tensor([3.0]), 2.0)
    tensor([1.])
    """
    return x / (1 + weight)
