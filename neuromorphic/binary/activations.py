"""The sign as a trainable activation: a sign in the forward pass, the slope of a surrogate in the backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.parameters import check_real

Binarizer = Literal["reste", "biper"]
LAST_POWER = 3.0
"""Final power o of ReSTE (Wu et al. 2023)."""
FARTHEST, NEAREST = 1.5, 0.1
"""Arguments above which ReSTE's slope is 0, and below which a chord's slope replaces the unbounded one of the power."""
FREQUENCY = 20.0
"""ω of BiPer (Vargas et al. 2024)."""
SOFT_SHARE = 0.5
"""Share of the training in which BiPer uses the sine itself as the weight."""


def signs(z: Tensor) -> Tensor:
    """Return −1 where `z < 0` and 1 elsewhere, in the dtype of `z`, never 0 as `torch.sign` does; NaN stays NaN."""
    return torch.where(z < 0, -1.0, torch.where(torch.isnan(z), math.nan, 1.0)).to(z.dtype)


def reste_slope(z: Tensor, o: float) -> Tensor:
    """Return the slope of `sign(z) |z|^{1/o}`: `(1/o) |z|^{(1−o)/o}`, bounded for small `|z|` and 0 for large."""
    size = z.abs()
    slope = size.clamp(min=NEAREST) ** ((1.0 - o) / o) / o
    chord = NEAREST ** (1.0 / o) / NEAREST
    slope = torch.where(size <= NEAREST, torch.full_like(slope, chord), slope)
    return torch.where(size > FARTHEST, torch.zeros_like(slope), slope)


def biper_slope(x: Tensor, omega: float) -> Tensor:
    """Return the slope of `sin(ωx)`: `ω cos(ωx)`."""
    return omega * torch.cos(omega * x)


class _SurrogateSign(torch.autograd.Function):
    """`sign(wave)` forward, and backward the slope that `slope(z, parameter)` gives instead of the sign's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, wave: Tensor, slope: Callable[[Tensor, float], Tensor], parameter: float) -> Tensor:
        return signs(wave)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.slope, ctx.parameter = inputs[2:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        return gradients[0] * ctx.slope(z, ctx.parameter), None, None, None


class ReSTE(nn.Module):
    """The sign, with the slope of `sign(z) |z|^{1/o}` backward (rectified straight-through estimator).

    o = 1 is the straight-through estimator (slope 1), o → ∞ the sign itself: a larger o errs less and shakes more, so o
    rises over training, from 1 to `last`. Backward, `(1/o)|z|^{(1−o)/o}` for `0.1 < |z| ≤ 1.5`, the chord's slope
    `0.1^{1/o}/0.1` below, 0 beyond, as in the authors' code.

    Parameters
    ----------
    o : at least 1; what `progress` sets.
    last : o at the end of training, at least 1.

    Source: Wu, Zheng, Liu, Zheng, "Estimator meets equilibrium perspective", ICCV 2023.

    >>> import torch
    >>> from relaxon.neuromorphic.binary import ReSTE
    >>> z = torch.tensor([-2.0, -0.5, 0.25], requires_grad=True)
    >>> ReSTE(o=2.0)(z).sum().backward()
    >>> z.grad.tolist()
    [0.0, 0.7071067690849304, 1.0]
    """

    def __init__(self, o: float = 1.0, last: float = LAST_POWER) -> None:
        super().__init__()
        check_real("o", o, least=1.0)
        check_real("last", last, least=1.0)
        self.o, self.last = float(o), float(last)

    def progress(self, share: float) -> None:
        """Set o for that share of the training, from 0 to 1: along a straight line from 1 to `last`."""
        check_real("share", share, least=0.0, up_to=1.0)
        self.o = 1.0 + (self.last - 1.0) * float(share)

    def forward(self, z: Tensor) -> Tensor:
        """Return the signs of `z`, of its shape and dtype."""
        return _SurrogateSign.apply(z, z.detach(), reste_slope, self.o)  # type: ignore[no-any-return, no-untyped-call]

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"o={self.o:g}, last={self.last:g}"


class BiPer(nn.Module):
    """The square wave `sign(sin(ωx))`, with the slope of the sine in the backward pass.

    Training has two stages: first the sine itself (`soft`), then its sign.

    Parameters
    ----------
    omega : ω above 0.
    soft : return `sin(ωx)` instead of its sign; set by `progress`.

    Source: Vargas, Correa, Hinojosa, Arguello, "BiPer: binary neural networks using a periodic function", CVPR 2024.

    >>> import math, torch
    >>> from relaxon.neuromorphic.binary import BiPer
    >>> x = torch.tensor([0.0, 0.2], requires_grad=True)
    >>> BiPer(omega=20.0)(x).tolist()
    [1.0, -1.0]
    """

    def __init__(self, omega: float = FREQUENCY, soft: bool = False) -> None:
        super().__init__()
        self.omega, self.soft = validation.positive_float("omega", omega), bool(soft)

    def progress(self, share: float) -> None:
        """Select the stage for a share of the training: the sine in the first half, the sign in the second."""
        check_real("share", share, least=0.0, up_to=1.0)
        self.soft = float(share) < SOFT_SHARE

    def forward(self, x: Tensor) -> Tensor:
        """Return the square wave of `x`, or the sine if `soft`, in its shape and dtype."""
        wave = torch.sin(self.omega * x)
        if self.soft:
            return wave
        return _SurrogateSign.apply(x, wave.detach(), biper_slope, self.omega)  # type: ignore[no-any-return, no-untyped-call]

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"omega={self.omega:g}, soft={self.soft}"


def build_binarizer(name: str) -> ReSTE | BiPer:
    """Return the activation of the given name; raise `ValueError` for an unknown one."""
    if name not in get_args(Binarizer):
        raise ValueError(f"binarizer must be 'reste' or 'biper', got {name!r}")
    return ReSTE() if name == "reste" else BiPer(soft=True)
