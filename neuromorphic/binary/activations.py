"""The sign as an activation that can be trained through: forward a sign, backward the slope of what stands for it."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from relaxon.core import validation

Binarizer = Literal["reste", "biper"]
LAST_POWER = 3.0
"""o at the end of training (Wu et al. 2023)."""
FARTHEST, NEAREST = 1.5, 0.1
"""Beyond the one ReSTE's slope is 0; below the other, where the power's slope has no bound, it is that of a chord."""
FREQUENCY = 20.0
"""ω of BiPer (Vargas et al. 2024)."""
SOFT_SHARE = 0.5
"""Of the training: BiPer's first stage, in which the sine itself is the weight."""


def signs(z: Tensor) -> Tensor:
    """Return −1 where `z < 0`, else 1, of the dtype of `z`: unlike `torch.sign` without a 0. NaN stays NaN."""
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


class _Reste(torch.autograd.Function):
    """`sign(z)` forward, `reste_slope` backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, o: float) -> Tensor:
        return signs(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.o = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return gradients[0] * reste_slope(z, ctx.o), None


class _Biper(torch.autograd.Function):
    """`sign(sin(ωx))` forward, `biper_slope` backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, omega: float) -> Tensor:
        return signs(torch.sin(omega * x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.omega = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * biper_slope(x, ctx.omega), None


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
        for name, value in (("o", o), ("last", last)):
            if validation.finite_float(name, value) < 1.0:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        self.o, self.last = float(o), float(last)

    def progress(self, share: float) -> None:
        """Set o for that share of the training, from 0 to 1: along a straight line from 1 to `last`."""
        self.o = 1.0 + (self.last - 1.0) * check_share(share)

    def forward(self, z: Tensor) -> Tensor:
        """Return the signs of `z`, of its shape and dtype."""
        return _Reste.apply(z, self.o)  # type: ignore[no-any-return, no-untyped-call]

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"o={self.o:g}, last={self.last:g}"


class BiPer(nn.Module):
    """The square wave `sign(sin(ωx))`, with the slope of the sine backward.

    Training has two stages: the sine itself while `soft`, then its sign.

    Parameters
    ----------
    omega : ω above 0.
    soft : give `sin(ωx)` in place of its sign; what `progress` sets.

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
        """Choose the stage for that share of the training: the sine in the first half, the sign in the second."""
        self.soft = check_share(share) < SOFT_SHARE

    def forward(self, x: Tensor) -> Tensor:
        """Return the square wave of `x` (the sine while `soft`), of its shape and dtype."""
        if self.soft:
            return torch.sin(self.omega * x)
        return _Biper.apply(x, self.omega)  # type: ignore[no-any-return, no-untyped-call]

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"omega={self.omega:g}, soft={self.soft}"


def build_binarizer(name: str) -> ReSTE | BiPer:
    """Return the activation of a name of `Binarizer`; ValueError for another."""
    if name not in get_args(Binarizer):
        raise ValueError(f"binarizer must be 'reste' or 'biper', got {name!r}")
    return ReSTE() if name == "reste" else BiPer(soft=True)


def check_share(share: float) -> float:
    """Return a share of the training; ValueError where it is not from 0 to 1."""
    if not 0.0 <= validation.finite_float("share", share) <= 1.0:
        raise ValueError(f"share must be from 0 to 1, got {share!r}")
    return float(share)
